"""Mentions: a name, a code, a term or a sum of money back to the one sentence that tells of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import english, known
from addenda.exercises.parsing import clauses, named_here
from addenda.exercises.wording import made


@dataclass(frozen=True)
class Mentions(Mined):
    """What is said of a name, a code or a term that stands in one sentence of the documents alone."""

    phrasings: int = 2

    name: ClassVar[str] = "mentions"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Names and codes of each sentence, and the subjects of clauses."""
        if not english(chunk, others):
            return
        often = known(chunk, others).often
        asked = {
            span.text: sentence.text
            for sentence in named_here(chunk, others)
            for span in spans.spans(sentence.text)
            if span.sort == "code" or (span.sort == "name" and spans.is_person(span.text))
        }
        for clause in clauses(chunk, others):
            start = clause.subject.split()[0].lower()
            if (
                len(words.content(clause.subject)) >= 2
                and len(clause.subject.split()) <= 7
                and start not in ("each", "every", "all", "no", "most")
            ):
                asked.setdefault(clause.subject, clause.said)
        for term, sentence in asked.items():
            if often(term) == 1:
                yield from made(_wordings(term), sentence, self.called(), chunk, draw, self.phrasings)


def _wordings(term: str) -> Iterator[str]:
    yield f"What is said about {term}?"
    yield f"What do you know about {term}?"
    yield f"Tell me about {term}."
    yield f"What can you tell me about {term}?"
