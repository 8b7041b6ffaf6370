"""Conditions: `If the seal is broken, ...` asked as `What happens if the seal is broken`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.clauses import finish
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import english, known
from addenda.exercises.parsing import named_here, points
from addenda.exercises.wording import made

_FIRST = re.compile(r"^(If|When|Once|As soon as) ([^;:]{8,120}?), (?:then )?([^\W\d_].{8,})\.$")
_LAST = re.compile(r"^([A-Z].{10,}?),? (if|once|as soon as) ([^,;]{8,})\.$")


@dataclass(frozen=True)
class Conditions(Mined):
    """What happens, or what is to be done, if something is the case."""

    phrasings: int = 3

    name: ClassVar[str] = "conditions"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each sentence with a condition before or after what follows from it."""
        ruling = known(chunk, others).rules(chunk)
        for sentence in named_here(chunk, others) if english(chunk, others) else ():
            first, last = _FIRST.match(sentence.text), _LAST.match(sentence.text)
            if first:
                link, case, then = first[1].lower(), first[2], first[3]
            elif last and last[1].split()[0].lower() not in words.PREPOSITIONS:
                link, case, then = last[2], last[3], last[1]
            else:
                continue
            if (
                points(case)
                or points(then, own=True)
                or re.search(r"—|\b(?:their|they|its)\b", case)
                or re.search(r"\bthat$| (?:and|or) (?:if|when)\b", then)
            ):
                continue
            yield from made(
                _wordings(link, case, then, ruling), sentence.text, self.called(), chunk, draw, self.phrasings
            )


def _wordings(link: str, case: str, then: str, ruling: bool) -> Iterator[str]:
    order = then.split()[0].lower() in words.ORDERS or then.lower().startswith(
        ("do not", "please", "you must", "you should")
    )
    if not re.match(r"(?:necessary|possible|needed|required|not|in doubt|so|any)\b", case):
        yield finish([f"What happens {link}", case])
        if ruling:
            yield finish([f"What is the rule {link}", case])
        if order:
            yield finish([f"What should I do {link}", case])
            yield finish([f"What do I do {link}", case])
            yield finish([f"What am I to do {link}", case])
