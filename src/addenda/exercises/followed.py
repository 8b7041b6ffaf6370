"""Followed: a teacher goes on with a conversation on the document, by a question that another sentence answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises.asking import TOKENS, ask, mined_by, one_of, sentences_of
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat


@dataclass(frozen=True)
class Followed(Generated):
    """The second turn of a conversation, whose first was mined. The answer is a sentence of the document."""

    each: int = 1
    of: tuple[str, ...] = ("costs", "amounts", "times", "places", "persons", "definitions", "turned")

    name: ClassVar[str] = "followed"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For so many pairs of a mined question and a sentence that does not answer it."""
        firsts, said = mined_by(self.of, chunk, others, draw), sentences_of(chunk, others)
        pairs = [(first, sentence) for first in firsts for sentence in said if sentence not in first.answer]
        for first, sentence in draw.sample(pairs, min(self.each, len(pairs))):
            task = (
                f'Somebody asked: "{first.question}" and was told: "{first.answer}" Write the next question of the conversation,'
                f' to which this is the answer: "{sentence}" Name in it what it is about.'
            )
            keep = {
                "answer": sentence,
                "first": [dict(one) for one in first.messages],
                "about": " ".join(chunk.headings),
            }
            yield Ask(ask(chunk, task), (chunk.id,), TOKENS, keep)

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """Both turns, where the second question is another than the first."""
        first = tuple(dict(one) for one in ask.keep["first"])
        for question, answer in one_of(said, ask):
            if question.lower() != first[0]["content"].lower():
                yield Made((*first, *chat(question, answer)), self.called(), ask.chunks)
