"""Joined: a teacher writes one question that two sentences answer together, the second from another chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.asking import TOKENS, ask, one_of, sentences_of
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat


@dataclass(frozen=True)
class Joined(Generated):
    """A question over two chunks of a document. The answer is one sentence of each."""

    each: int = 1

    name: ClassVar[str] = "joined"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For so many pairs of sentences; those that share a word are taken first."""
        far = [other for other in others if other.document == chunk.document and other.id != chunk.id]
        here = sentences_of(chunk, others)
        if not far or not here:
            return
        other = draw.choice(far)
        pairs = [(one, two) for one in here for two in sentences_of(other, others)]
        draw.shuffle(pairs)
        pairs.sort(key=lambda pair: not set(words.content(pair[0])) & set(words.content(pair[1])))
        for one, two in pairs[: self.each]:
            task = f'Write one question that needs both of these sentences for its answer: "{one}" and "{two}"'
            keep = {"answer": f"{one} {two}", "one": one, "two": two}
            yield Ask(ask(chunk, task, other), (chunk.id, other.id), TOKENS, keep)

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The question, where it has a word of each sentence that the other lacks."""
        for question, answer in one_of(said, ask):
            asked, one, two = (_stems(text) for text in (question, str(ask.keep["one"]), str(ask.keep["two"])))
            if asked & (one - two) and asked & (two - one):
                yield Made(chat(question, answer), self.called(), ask.chunks)


def _stems(text: str) -> set[str]:
    return {words.stem(word) for word in words.content(text)}
