"""Both: two questions on a chunk, or on two chunks of a document, in one; the answer gives both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, cast

from addenda.core import registry
from addenda.exercises.exercise import Chunk, Made, Mined, chat


@dataclass(frozen=True)
class Both(Mined):
    """Two facts asked in one message, the second from the same chunk or from another of the document."""

    each: int = 3
    of: tuple[str, ...] = ("costs", "amounts", "times", "places", "persons")

    name: ClassVar[str] = "both"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Pairs of direct questions that need no heading before them."""
        here = self._asked(chunk, others, draw)
        far = [other for other in others if other.document == chunk.document and other.id != chunk.id]
        there = self._asked(draw.choice(far), others, draw) if far else []
        for one in draw.sample(here, min(self.each, len(here))):
            pool = [two for two in (there if draw.random() < 0.5 and there else here) if two.answer != one.answer]
            if not pool:
                continue
            two = draw.choice(pool)
            second = two.question[:1].lower() + two.question[1:]
            form = draw.choice(["{0}, and {1}", "{0}? And {1}", "Two things: {2}, and {1}"])
            first = one.question.rstrip("?")
            question = form.format(first, second, first[:1].lower() + first[1:])
            chunks = tuple(dict.fromkeys((*one.chunks, *two.chunks)))
            yield Made(chat(question, f"{one.answer} {two.answer}"), self.called(), chunks)

    def _asked(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> list[Made]:
        made: list[Made] = []
        for kind in self.of:
            made += cast("Mined", registry.build("exercise", kind, {})).mine(chunk, others, draw)
        return [
            one
            for one in made
            if one.question.endswith("?") and ":" not in one.question and "According" not in one.question
        ]
