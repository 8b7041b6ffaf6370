"""Written: a teacher writes a question that a given sentence answers; the sentence is the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises.asking import TOKENS, ask, one_of, sentences_of
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat


@dataclass(frozen=True)
class Written(Generated):
    """A question for a sentence of the document. The answer is the sentence, never the teacher's."""

    each: int = 4

    name: ClassVar[str] = "written"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For so many sentences of a chunk."""
        there = sentences_of(chunk, others)
        for sentence in draw.sample(there, min(self.each, len(there))):
            task = (
                f'Write a question to which this sentence of the text is the answer: "{sentence}" Name in the'
                f" question what it is about."
            )
            keep = {"answer": sentence, "about": " ".join(chunk.headings)}
            yield Ask(ask(chunk, task), (chunk.id,), TOKENS, keep)

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The question, where it is one and does not give its answer away."""
        for question, answer in one_of(said, ask):
            yield Made(chat(question, answer), self.called(), ask.chunks)
