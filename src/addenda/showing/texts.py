"""Texts of the demo: held-out pieces, and a passage that goes from one subject to another."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np

from addenda import tiny
from addenda.texts import Texts, texts


def documents(file: Path) -> list[str]:
    """The texts of a sample."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def held_out(name: str, characters: int, most: int | None, seed: int) -> Texts:
    """A run of `characters` from each document of a sample, begun at a seeded place between two words.

    Of more than `most` documents so many are taken, evenly spread.
    """
    found = documents(tiny.sample(name))
    if most is not None and most < len(found):
        found = [found[at] for at in np.linspace(0, len(found) - 1, most).astype(int)]
    random = np.random.default_rng([seed, characters])
    cut = []
    for text in found:
        start = int(random.integers(max(1, len(text) - characters)))
        start = 0 if start == 0 else text.find(" ", start) + 1
        cut.append(text[start : start + characters].rsplit(" ", 1)[0])
    return texts(cut, name=f"{name}, pieces of {characters} characters")


def mixed(seed: int = 0, characters: int = 260) -> tuple[str, list[tuple[str, int]]]:
    """A passage of held-out text, general and medical by turns, and (subject, where it ends) for each part."""
    random = np.random.default_rng([seed, 1])
    general = _passages(tiny.sample("general_valid"), characters)
    medical = _passages(tiny.sample("pubmed_valid"), characters)
    chosen = []
    for subject, found in (("general", general), ("medical", medical)):
        chosen.append([(subject, found[at]) for at in random.permutation(len(found))[:2]])
    parts = [part for pair in zip(*chosen, strict=True) for part in pair]
    text, bounds = "", []
    for subject, passage in parts:
        text += ("\n\n" if text else "") + passage
        bounds.append((subject, len(text)))
    return text, bounds


def _passages(file: Path, characters: int) -> list[str]:
    """The opening sentences of each document's first long paragraph, up to about `characters`."""
    found = []
    for text in documents(file):
        for paragraph in text.split("\n\n"):
            sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))
            passage = sentences[0]
            for sentence in sentences[1:]:
                if len(passage) + len(sentence) > characters:
                    break
                passage += " " + sentence
            if characters // 2 <= len(passage) <= characters:
                found.append(passage)
                break
    return found
