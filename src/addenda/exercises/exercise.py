"""What an exercise promises: from a chunk of a document, questions with their answers; mined from it, or asked of a teacher."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

from addenda.core.method import Method

#: what is said in a chat: `role` and `content`
Message = dict[str, str]


@dataclass(frozen=True)
class Chunk:
    """A piece of a document, cut at paragraphs: `handbook.md#3`, the headings that it stands under, and its text."""

    id: str
    document: str
    headings: tuple[str, ...]
    text: str

    @property
    def read(self) -> str:
        """As it is put into a window: its headings, then its text."""
        return "\n\n".join(part for part in (" > ".join(self.headings), self.text) if part)


@dataclass(frozen=True)
class Made:
    """One exercise: a chat whose last message is the answer; the chunks that it comes from, its own first.

    `answered` is False where the documents do not say: the answer is a refusal.
    """

    messages: tuple[Message, ...]
    kind: str
    chunks: tuple[str, ...]
    answered: bool = True

    @property
    def question(self) -> str:
        """What was asked last."""
        return next(said["content"] for said in reversed(self.messages[:-1]) if said["role"] == "user")

    @property
    def answer(self) -> str:
        """What is to be said."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class Ask:
    """What a model is asked, answered in at most so many tokens; `keep` is plain data that is read with its answer."""

    messages: tuple[Message, ...]
    chunks: tuple[str, ...] = ()
    tokens: int = 64
    keep: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Exercise(Method):
    """Options of one kind of exercise; a frozen dataclass in a file of its own under `exercises/`.

    What it draws comes from `draw`, which is seeded for each chunk apart: a set is the same whatever else is in it.
    """

    stage = "exercise"


class Mined(Exercise):
    """An exercise that is found in a chunk's own words, without any model."""

    @abstractmethod
    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """The exercises of a chunk; `others` are all chunks of the documents, this one among them."""


class Generated(Exercise):
    """An exercise that a teacher writes: a model reads the chunk, and what it says is read again with care."""

    #: whether answers are in the teacher's own words; such exercises are asked only of one that was seen to read well
    takes_answers: ClassVar[bool] = False

    @abstractmethod
    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        """What a teacher is asked of a chunk."""

    @abstractmethod
    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        """The exercises in what a teacher said; none where it is of no use."""


def chat(question: str, answer: str) -> tuple[Message, ...]:
    """One question and its answer."""
    return {"role": "user", "content": question}, {"role": "assistant", "content": answer}
