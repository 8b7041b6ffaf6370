"""Pairs: lines of the form `key: value`, asked for the value, and back from the value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import english
from addenda.exercises.reading import read
from addenda.exercises.wording import made


@dataclass(frozen=True)
class Pairs(Mined):
    """What a line `key: value` gives for its key."""

    phrasings: int = 3

    name: ClassVar[str] = "pairs"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each such line whose value is short."""
        for key, value in read(chunk).pairs if english(chunk, others) else ():
            if not words.content(key) or len(value.split()) > 30 or re.search(r"[=<>{}\[\]]|\w\(", value):
                continue
            low = key if re.match(r"[A-Z][A-Z0-9]|.*\d|\w+ [A-Z]", key) else key[:1].lower() + key[1:]
            answer = f"{key[:1].upper()}{key[1:]}: {value.rstrip('.')}."
            yield from made(_wordings(low, value), answer, self.called(), chunk, draw, self.phrasings)


def _wordings(key: str, value: str) -> Iterator[str]:
    person = re.fullmatch(spans.NAME, value) and spans.is_person(value)
    the = key if key.split()[0] in words.DETERMINERS or key[:1].isupper() else f"the {key}"
    if (
        len(value.split()) >= 5 and re.match(r"(?:an? |the |any )?[a-z-]+ ", value) and not re.search(r"\d", value)
    ):  # a glossary's
        yield f'What does "{key}" mean?'
        yield f'What is meant by "{key}"?'
        yield f'How is "{key}" defined?'
        yield f'Explain the term "{key}".'
        return
    yield f"What is given for {key}?"
    yield f'What is given under "{key}"?'
    if person:
        yield f"Who is named for {key}?"
        yield f"Which name is given for {key}?"
    elif re.match(rf"{spans.MONEY}$", value):
        yield f"How much is it for {key}?"
        yield f"What is the price or sum for {key}?"
    elif re.fullmatch(r"[+()\d /-]{5,}", value):
        yield f"What is the number for {key}?"
        yield f"Which number is given for {key}?"
    elif re.search(spans.CLOCK, value):
        yield f"Which times are given for {key}?"
        yield f"What are the hours for {key}?"
    elif len(value.split()) <= 8 and not words.plural(key.split()[-1]):
        yield f"What is {the}?"
        yield f"Tell me {the}."
