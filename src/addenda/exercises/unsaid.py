"""Unsaid: a teacher writes a question on something that the documents do not tell of; the answer is a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.asking import TOKENS, ask, question_in
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat
from addenda.exercises.known import english, known
from addenda.exercises.refusing import refusal
from addenda.exercises.untold_here import topics
from addenda.exercises.wording import titled


@dataclass(frozen=True)
class Unsaid(Generated):
    """Questions that the documents do not answer, on a thing whose name stands nowhere in them."""

    each: int = 1

    name: ClassVar[str] = "unsaid"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For so many things of a list, in documents of rules."""
        all_of = known(chunk, others)
        free = topics(all_of)
        if not english(chunk, others) or not all_of.rules(chunk) or not chunk.headings:
            return
        for topic in draw.sample(free, min(self.each, len(free))):
            task = f'Write a question that a reader of "{titled(chunk) or chunk.headings[-1]}" might ask about {words.a(topic)}.'
            yield Ask(ask(chunk, task), (chunk.id,), TOKENS, {"answer": refusal(chunk, draw), "topic": topic})

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The question, where it names the thing."""
        question, topic = question_in(said), str(ask.keep["topic"])
        asked = {words.stem(word) for word in words.content(question or "")}
        if question and all(words.stem(word) in asked for word in words.content(topic)):
            yield Made(chat(question, str(ask.keep["answer"])), self.called(), ask.chunks, answered=False)
