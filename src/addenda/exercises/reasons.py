"""Reasons: `... because rust spreads quickly.` asked as a question with `Why`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from addenda.exercises.clauses import finish
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import english
from addenda.exercises.parsing import clauses_in, named_here
from addenda.exercises.wording import made

_BECAUSE = re.compile(r"^([A-Z][^;:]{10,}?),? (?:because|so that|in order to) (?!of\b)[^;:]{8,}\.$")


@dataclass(frozen=True)
class Reasons(Mined):
    """Why something is so, or must be done."""

    phrasings: int = 3

    name: ClassVar[str] = "reasons"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each sentence that gives its reason."""
        for sentence in named_here(chunk, others) if english(chunk, others) else ():
            match = _BECAUSE.match(sentence.text)
            found = clauses_in(replace(sentence, text=f"{match[1]}."), chunk, others) if match else []
            if len(found) != 1:
                continue
            clause = found[0]
            asked = clause.ask("Why")
            also = [asked, f"For what reason {asked[4:]}"]
            if not clause.negative:
                also.append(finish(["What is the reason that", clause.plain, clause.before]))
            yield from made(also, sentence.text, self.called(), chunk, draw, self.phrasings)
