"""Texts of the demo: held-out pieces, prompts, and a passage that goes from one subject to another."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from addenda import tiny
from addenda.text.texts import Texts, texts

#: characters of a paragraph that a prompt may come from, and words of it that a prompt has
PARAGRAPH, WORDS = 240, 36


def documents(file: Path) -> list[str]:
    """The texts of a sample."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def held_out(name: str, characters: int, pieces: int | None, seed: int) -> Texts:
    """Runs of `characters` from the documents of a sample, each begun at a seeded place between two words.

    One of each document; of more than `pieces` documents so many are taken, evenly spread, and fewer are cut into stretches, all
    of a length, so that so many come of them.
    """
    whole = documents(tiny.sample(name))
    if pieces is not None:
        whole = [stretch for text in whole for stretch in _stretches(text, -(-pieces // len(whole)))]
        whole = [whole[at] for at in np.linspace(0, len(whole) - 1, min(pieces, len(whole))).astype(int)]
    random = np.random.default_rng([seed, characters])
    cut = []
    for text in whole:
        start = int(random.integers(max(1, len(text) - characters)))
        start = 0 if start == 0 else text.find(" ", start) + 1
        cut.append(text[start : start + characters].rsplit(" ", 1)[0])
    return texts(cut, name=f"{name}, pieces of {characters} characters")


def _stretches(text: str, count: int) -> Iterator[str]:
    for number in range(count):
        yield text[number * len(text) // count : (number + 1) * len(text) // count]


def openings(name: str, count: int) -> list[str]:
    """Openings of paragraphs of a sample, some tens of tokens each and broken off between two words, evenly spread over it.

    Which they are follows from the sample alone: nobody picks them. Of each document there is one, where there are enough.
    """
    each = [
        (number, " ".join(paragraph.split(" ")[:WORDS]))
        for number, text in enumerate(documents(tiny.sample(name)))
        for paragraph in _paragraphs(text)
        if len(paragraph) >= PARAGRAPH and re.match(r"[A-ZÀ-Ý]\w* ", paragraph)
    ]
    first = list(dict(reversed(each)).values())[::-1]
    chosen = first if len(first) >= count else [opening for _, opening in each]
    return [chosen[int(at)] for at in (np.arange(count) + 0.5) * len(chosen) / count]


def short_prompts(subject: str) -> list[str]:
    """The prompts of a sentence each that come with the package: `medical`, `french` or `general`."""
    lines = tiny.sample("prompts").read_text(encoding="utf-8").splitlines()
    return [record["text"] for record in map(json.loads, lines) if record["subject"] == subject]


def mixed(
    general: str, subject: str, names: tuple[str, str], seed: int = 0, characters: int = 400
) -> tuple[str, list[tuple[str, int]]]:
    """A held-out passage that goes from general text to the subject and back, and (its name, where it ends) for each part.

    Args:
        general: the sample of general text.
        subject: the sample of the subject.
        names: what the two are called.
        seed: of the choice among their paragraphs.
        characters: of each part, at most.
    """
    random = np.random.default_rng([seed, 1])
    chosen = []
    for sample, count in ((general, 2), (subject, 1)):
        passages = list(_passages(tiny.sample(sample), characters))
        chosen.append([passages[at] for at in random.permutation(len(passages))[:count]])
    text, bounds = "", []
    for name, passage in ((names[0], chosen[0][0]), (names[1], chosen[1][0]), (names[0], chosen[0][1])):
        text += ("\n\n" if text else "") + passage
        bounds.append((name, len(text)))
    return text, bounds


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _passages(file: Path, characters: int) -> Iterator[str]:
    """The opening sentences of long paragraphs, from two thirds of so many characters up to all of them."""
    for text in documents(file):
        for paragraph in _paragraphs(text):
            sentences = re.split(r"(?<=[.!?])\s+(?=[A-ZÀ-Ý])", paragraph)
            passage = sentences[0]
            for sentence in sentences[1:]:
                if len(passage) + len(sentence) >= characters:
                    break
                passage += " " + sentence
            if 2 * characters // 3 <= len(passage) <= characters:
                yield passage
