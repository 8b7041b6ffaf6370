"""Pointed: a teacher writes a question whose answer is a name, a number, a date or a code of the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import spans
from addenda.exercises.asking import TOKENS, ask, one_of, sentences_of
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat


@dataclass(frozen=True)
class Pointed(Generated):
    """A question for a stated piece of a sentence, as a sum or a name. The answer is the sentence that states it."""

    each: int = 3

    name: ClassVar[str] = "pointed"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For one piece of each of so many sentences."""
        there = [
            (one, found) for one in sentences_of(chunk, others) if (found := [span.text for span in spans.spans(one)])
        ]
        for sentence, found in draw.sample(there, min(self.each, len(there))):
            piece = draw.choice(found)
            task = f'Write a question whose answer is "{piece}", as this sentence of the text says: "{sentence}"'
            keep = {"answer": sentence, "piece": piece, "about": " ".join(chunk.headings)}
            yield Ask(ask(chunk, task), (chunk.id,), TOKENS, keep)

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The question, where it does not say the piece itself."""
        for question, answer in one_of(said, ask):
            if str(ask.keep["piece"]).lower() not in question.lower():
                yield Made(chat(question, answer), self.called(), ask.chunks)
