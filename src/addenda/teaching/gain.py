"""Gain: how much likelier an answer is with its chunk in the window; what any chunk makes likelier tells nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.exercises.exercise import Chunk, Made, Message
from addenda.objectives.head import Head
from addenda.plug.prefixed import score_alike
from addenda.remote.store import Store, key_of
from addenda.teaching.study_set import form
from addenda.telling.progress import tick
from addenda.text.encoding import Encoded, Encoder
from addenda.text.prompting import after_text
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: answers scored together; pairs that the margin is calibrated on; the share of them that would pass by chance
GROUP, PAIRS, BY_CHANCE = 32, 96, 0.05
#: general text that stands for another chunk where the documents have but one
GENERAL, CHARACTERS = "general_train", 800


#: a conversation whose last answer is scored, and the text in the window before it
Scored = tuple[Sequence[Message], str | None]


@dataclass(frozen=True)
class Gains:
    """The gain of each exercise in nats per token of its answer (None: too long for the base), and the margin to pass.

    The margin is the gain that 95% of mismatched pairs stay below: the same answers with another chunk in the window.
    """

    each: tuple[float | None, ...]
    margin: float
    pairs: int


class Scorer:
    """Scores answers with and without a text in the window; answers after one text are scored together, each group once."""

    def __init__(self, base: Base, store: Store) -> None:
        self.base, self.store = base, store
        self.encoder, self.head = Encoder(base.tokenizer, base.vocabulary), Head(base.model)

    def likelihoods(self, asked: Sequence[Scored], told: Callable[[int], None] = lambda _: None) -> list[float | None]:
        """The mean log-probability of each answer's tokens, after a text or none; None where it does not fit the base's window.

        Groups depend on what is asked alone, so that their bits do not depend on what was scored before an interruption.

        Raises:
            FileError: what was found cannot be kept.
            Stopped: after a signal; groups that are done are kept.
        """
        keys = [key_of([self.base.fingerprint, list(messages), text]) for messages, text in asked]
        done = 0
        for group in _groups(asked):
            tick()
            if not all(keys[at] in self.store for at in group):
                found = self._scored([asked[at] for at in group])
                new = {keys[at]: {"nats": nats} for at, nats in zip(group, found, strict=True)}
                self.store.add({key: value for key, value in new.items() if key not in self.store})
            done += len(group)
            told(done)
        return [self.store[key]["nats"] for key in keys]

    def _scored(self, asked: Sequence[Scored]) -> list[float | None]:
        encoded = [self._encoded(messages, text) for messages, text in asked]
        most = self.base.context or math.inf
        fitting = [at for at, one in enumerate(encoded) if len(one.ids) <= most and one.weights[1:].any()]
        found: list[float | None] = [None] * len(asked)
        if fitting:
            documents = [encoded[at] for at in fitting]
            with self.base.off():
                nats = score_alike(self.base, self.head, documents)
            for at, document, value in zip(fitting, documents, nats, strict=True):
                found[at] = -value / int(document.weights[1:].sum())
        return found

    def _encoded(self, messages: Sequence[Message], text: str | None) -> Encoded:
        """A conversation of which the last answer counts."""
        read = tuple(after_text(messages, text)) if text is not None else tuple(messages)
        record: dict[str, Any] = form(self.base.tokenizer, read)
        if "messages" in record:
            record = {"prompt": record["messages"][:-1], "completion": record["messages"][-1:]}
        return self.encoder.one(record)


def gains(
    scorer: Scorer,
    exercises: Sequence[Made],
    chunks: Mapping[str, Chunk],
    seed: int,
    told: Callable[[int], None] = lambda _: None,
) -> Gains:
    """The gain of exercises, and the margin by mismatched pairs.

    Args:
        scorer: on the base.
        exercises: that are answered in their chunks.
        chunks: by name.
        seed: of the pairs.
        told: is given how many answers are scored, as they come.
    """
    pairs = _mismatched(exercises, chunks, seed)
    asked: list[Scored] = [(made.messages, None) for made in exercises]
    asked += [(made.messages, read(made, chunks)) for made in exercises]
    asked += [(exercises[at].messages, text) for at, text in pairs]
    scores = scorer.likelihoods(asked, told)
    without, with_it, mismatched = scores[: len(exercises)], scores[len(exercises) :], scores[2 * len(exercises) :]
    gained = tuple(_minus(one, other) for one, other in zip(with_it, without, strict=False))
    chance = [_minus(one, without[at]) for one, (at, _) in zip(mismatched, pairs, strict=True)]
    known = [gain for gain in chance if gain is not None]
    margin = max(0.0, float(np.quantile(known, 1 - BY_CHANCE))) if known else 0.0
    return Gains(gained, margin, len(known))


def _groups(asked: Sequence[Scored]) -> Iterator[list[int]]:
    """The places of answers after one text, the shorter first, so many at a time."""
    by_text: dict[str | None, list[int]] = {}
    for at, (_, text) in enumerate(asked):
        by_text.setdefault(text, []).append(at)
    for places in by_text.values():
        places.sort(key=lambda at: (sum(len(said["content"]) for said in asked[at][0]), at))
        yield from (places[start : start + GROUP] for start in range(0, len(places), GROUP))


def read(made: Made, chunks: Mapping[str, Chunk]) -> str:
    """What has to be read to know an answer."""
    return "\n\n".join(chunks[name].read for name in made.chunks)


def _minus(with_it: float | None, without: float | None) -> float | None:
    return None if with_it is None or without is None else with_it - without


def _mismatched(exercises: Sequence[Made], chunks: Mapping[str, Chunk], seed: int) -> list[tuple[int, str]]:
    """Exercises, by their places, each with a chunk that it does not come from."""
    draw = Random(f"mismatched {seed}")
    places = sorted(draw.sample(range(len(exercises)), min(PAIRS, len(exercises))))
    others = [chunk.read for chunk in chunks.values()]
    if len(others) < 2:
        others = [one["text"][:CHARACTERS] for one, _ in zip(texts(GENERAL), range(PAIRS), strict=False)]
    made: list[tuple[int, str]] = []
    for at in places:
        own = {chunks[name].read for name in exercises[at].chunks}
        apart = [text for text in others if text not in own]
        if apart:
            made.append((at, draw.choice(apart)))
    return made
