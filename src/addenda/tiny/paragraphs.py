"""Paragraphs with questions by people, on which a base practises to answer from a text in front of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import sample
from .corpus import read_jsonl

#: where they come from; of the second, which tells articles apart, one in so many is left for studies
FILE, OTHERS, LEFT = "squad/squad_v2_dev_answerable.jsonl.gz", "squad/xquad_en.jsonl.gz", 4
LICENCE = "CC BY-SA 4.0"
NOTE = """\
`paragraphs.jsonl.gz` has {paragraphs} paragraphs of Wikipedia with {questions} questions that people wrote on them and the
answers, which stand in the paragraph: `id`, `text`, `questions` (pairs), `license`. They are of the development set of SQuAD 2.0
(Rajpurkar, Jia and Liang, 2018), by way of `lab-paper-code/dual_path_attribution` (commit
`411720aaa63c1b479ad425d3b950f55d04d72918`), and of XQuAD (Artetxe, Ruder and Yogatama, 2020), `deepmind/xquad` (commit
`60cac411649156efb6aab9dd4c9cde787a2c0345`), of that without every fourth article. Both are CC BY-SA 4.0,
<https://creativecommons.org/licenses/by-sa/4.0/>. Changed was only this: answers begin with a capital, end with a full stop.
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
    others = list(read_jsonl(data / OTHERS))
    titles = left_out(others)
    left = {record["context"] for record in others if record["title"] in titles}
    found: dict[str, dict[str, str]] = {}
    for record in [*read_jsonl(data / FILE), *others]:
        if record["context"] not in left:
            said = record["answers"][0]
            asked = found.setdefault(record["context"], {})
            asked.setdefault(record["question"].strip(), f"{said[:1].upper()}{said[1:]}.")
    for text in sorted(found, key=_digest):
        yield {
            "id": _digest(text)[:12],
            "text": text,
            "questions": list(found[text].items()),
            "license": LICENCE,
        }


def left_out(records: Iterable[Mapping[str, Any]]) -> set[str]:
    """The titles of the articles that are left for studies."""
    return set(sorted({record["title"] for record in records}, key=_digest)[::LEFT])


def note() -> str:
    """Credits and licence of the paragraphs."""
    found = paragraphs()
    return NOTE.format(paragraphs=len(found), questions=f"{sum(len(one.questions) for one in found):,}")


def _digest(text: str) -> str:
    return hashlib.sha256(f"paragraph {text}".encode()).hexdigest()
