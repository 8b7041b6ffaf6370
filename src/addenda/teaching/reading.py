"""Reading: whether a teacher gives the answers that stand in a text in front of it, before anything is believed of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from addenda.exercises.exercise import Ask, Chunk, Made
from addenda.remote.answerer import Answerer, answers
from addenda.remote.store import Store
from addenda.teaching.gain import read
from addenda.text.prompting import after_text
from addenda.text.words import content_words

#: questions that are asked to find out, one of a chunk as far as there are so many; tokens of an answer
QUESTIONS, TOKENS = 24, 48
#: how a question ends: what is to be completed or explained has no one answer
_ASKS = ("?", "？", "؟")
#: of the words that an answer has and its question has not, so many have to be said
SAID = 0.6
#: a teacher reads well that gives so many of the answers; one that gives fewer than the second is not asked at all
WELL, AT_ALL = 0.7, 0.3


@dataclass(frozen=True)
class Reading:
    """Of how many questions a teacher gave the answer with its text in the window; `samples` are question, wanted, said."""

    right: int
    asked: int
    samples: tuple[tuple[str, str, str], ...] = ()

    @property
    def share(self) -> float:
        """Of the questions."""
        return self.right / self.asked if self.asked else 0.0

    @property
    def well(self) -> bool:
        """Whether its own answers are taken."""
        return self.share >= WELL

    @property
    def at_all(self) -> bool:
        """Whether it is asked anything."""
        return self.share >= AT_ALL

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"right": self.right, "asked": self.asked, "samples": [list(one) for one in self.samples]}


def reading(
    teacher: Answerer, exercises: Sequence[Made], chunks: Mapping[str, Chunk], store: Store, seed: int,
    told: Callable[[int], None] = lambda _: None,
) -> Reading:  # fmt: skip
    """Ask a teacher some mined questions, each with its chunk before it, and count the answers that say what the chunk says."""
    chosen = questions(exercises, seed)
    asks = [Ask(tuple(after_text(made.messages[:-1], read(made, chunks))), made.chunks, TOKENS) for made in chosen]
    said = [one.text for one in answers(teacher, asks, store, told)]
    right = [gives(made, text) for made, text in zip(chosen, said, strict=True)]
    samples = tuple((made.question, made.answer, text) for made, text in zip(chosen, said, strict=True))
    return Reading(sum(right), len(right), samples)


def questions(exercises: Sequence[Made], seed: int) -> list[Made]:
    """Questions that are asked: of as many chunks as there are, with answers that say more than their questions."""
    by_chunk: dict[str, list[Made]] = {}
    for made in exercises:
        plain = made.answered and len(made.messages) == 2 and len(made.chunks) == 1
        if plain and made.question.rstrip().endswith(_ASKS) and _told(made):
            by_chunk.setdefault(made.chunks[0], []).append(made)
    draw = Random(f"reading {seed}")
    pools = [draw.sample(pool, len(pool)) for pool in by_chunk.values()]
    draw.shuffle(pools)
    chosen: list[Made] = []
    for turn in range(max(map(len, pools), default=0)):
        chosen += [pool[turn] for pool in pools if turn < len(pool)]
        if len(chosen) >= QUESTIONS:
            break
    return chosen[:QUESTIONS]


def gives(made: Made, said: str) -> bool:
    """Whether what was said has what the answer has and the question has not: all its numbers, and most of its words."""
    wanted, there = _told(made), content_words(said)
    numbers = {word for word in wanted if any(map(str.isdigit, word))}
    return numbers <= there and len(wanted & there) >= SAID * len(wanted)


def _told(made: Made) -> set[str]:
    """The words that an answer has and its question has not."""
    return content_words(made.answer) - content_words(made.question)
