"""Paragraphs with questions by people, on which a base practises to answer from a text in front of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import sample
from .corpus import read_jsonl

#: where they come from, and what is kept out of them: those are left for studies
FILE, OTHERS = "squad/squad_v2_dev_answerable.jsonl.gz", "squad/xquad_en.jsonl.gz"
LICENCE = "CC BY-SA 4.0"
NOTE = """\
`paragraphs.jsonl.gz` has {paragraphs} paragraphs of Wikipedia with {questions} questions that people wrote on them and the
answers, which stand in the paragraph: `id`, `text`, `questions` (pairs), `license`. They are of the development set of SQuAD 2.0
(Rajpurkar, Jia and Liang, 2018), CC BY-SA 4.0, <https://creativecommons.org/licenses/by-sa/4.0/>, without the paragraphs of
XQuAD; by way of `lab-paper-code/dual_path_attribution` (commit `411720aaa63c1b479ad425d3b950f55d04d72918`). Changed was only this:
answers begin with a capital and end with a full stop.
"""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, and questions on it with their answers."""

    id: str
    text: str
    questions: tuple[tuple[str, str], ...]


def paragraphs(count: int | None = None) -> list[Paragraph]:
    """The paragraphs that come with the package, in an order that depends on their texts alone; default: all."""
    shipped = list(read_jsonl(sample("paragraphs")))[:count]
    return [
        Paragraph(one["id"], one["text"], tuple((asked, said) for asked, said in one["questions"])) for one in shipped
    ]


def gather(data: Path) -> Iterator[dict[str, Any]]:
    """The records of the paragraphs, from the data folder."""
    left = {record["context"] for record in read_jsonl(data / OTHERS)}
    found: dict[str, list[tuple[str, str]]] = {}
    for record in read_jsonl(data / FILE):
        if record["context"] not in left:
            said = record["answers"][0]
            found.setdefault(record["context"], []).append(
                (record["question"].strip(), f"{said[:1].upper()}{said[1:]}.")
            )
    for text in sorted(found, key=_digest):
        yield {"id": _digest(text)[:12], "text": text, "questions": found[text], "license": LICENCE}


def note() -> str:
    """Credits and licence of the paragraphs."""
    found = paragraphs()
    return NOTE.format(paragraphs=len(found), questions=f"{sum(len(one.questions) for one in found):,}")


def _digest(text: str) -> str:
    return hashlib.sha256(f"paragraph {text}".encode()).hexdigest()
