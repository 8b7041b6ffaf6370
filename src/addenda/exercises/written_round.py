"""Written round: a teacher writes a question that names what a sentence states, and asks what it is said of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.asking import TOKENS, ask, question_in
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, chat
from addenda.exercises.parsing import clauses, points


@dataclass(frozen=True)
class WrittenRound(Generated):
    """A fact asked from its other end, in a teacher's words. The answer is the sentence."""

    each: int = 2

    name: ClassVar[str] = "written_round"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """For so many clauses whose rest states something particular."""
        there = [
            (clause, piece)
            for clause in clauses(chunk, others)
            if clause.subject not in ("you", "we") and (piece := next(iter(spans.spans(clause.rest)), None))
        ]
        for clause, piece in draw.sample(there, min(self.each, len(there))):
            task = (
                f'The text says: "{clause.said}" Write a question that has "{piece.text}" in it and is'
                f' answered by "{clause.subject}".'
            )
            keep = {"answer": clause.said, "piece": piece.text, "subject": clause.subject}
            yield Ask(ask(chunk, task), (chunk.id,), TOKENS, keep)

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The question, where it names the piece and not the subject."""
        question = question_in(said)
        if not question or points(question) or str(ask.keep["piece"]).lower() not in question.lower():
            return
        subject = {words.stem(word) for word in words.content(str(ask.keep["subject"]))}
        asked = {words.stem(word) for word in words.content(question)}
        if subject - asked and len(asked) >= 2:
            yield Made(chat(question, str(ask.keep["answer"])), self.called(), ask.chunks)
