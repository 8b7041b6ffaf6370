"""Restated: a teacher puts a mined question into other words; the answer stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.asking import TOKENS, ask, mined_by, one_of
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat


@dataclass(frozen=True)
class Restated(Generated):
    """Another phrasing of a question that was mined from the document."""

    each: int = 4
    of: tuple[str, ...] = ("costs", "amounts", "times", "places", "persons", "definitions", "conditions")

    name: ClassVar[str] = "restated"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For one question on each of so many sentences."""
        there = {one.answer: one for one in mined_by(self.of, chunk, others, draw)}
        for one in draw.sample(list(there.values()), min(self.each, len(there))):
            asked = re.sub(r'^(?:About|Under|In|According to) "[^"]+"(?:, under "[^"]+")?[:,] ', "", one.question)
            task = f'Say this question in quite other words, with the same meaning: "{asked}"'
            yield Ask(ask(chunk, task), (chunk.id,), TOKENS, {"answer": one.answer, "asked": asked})

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The new phrasing, where it is another and still names what the first named."""
        for question, answer in one_of(said, ask):
            old, new = (set(words.words(text.lower())) for text in (str(ask.keep["asked"]), question))
            named = {words.stem(word) for word in words.content(str(ask.keep["asked"]))}
            kept = named & {words.stem(word) for word in words.content(question)}
            if len(old & new) < 0.8 * len(old | new) and kept:
                yield Made(chat(question, answer), self.called(), ask.chunks)
