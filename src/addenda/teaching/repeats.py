"""What a study set leaves out before anything is scored: questions without a subject, near-repeats, and held-out questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from addenda.exercises.exercise import Chunk, Made, Message
from addenda.text.words import content_words, words
from addenda.tiny.corpus import RunHasher, contains

#: of the words and pairs of words of two questions, and of their answers, at least this share is common to near-repeats
NEAR = 0.85
#: permutations of a signature: the share is known to about 0.07
PERMUTATIONS = 128


def asked_in(messages: Sequence[Message]) -> str:
    """All that the user says in a conversation."""
    return "\n".join(said["content"] for said in messages if said["role"] == "user")


def names_subject(made: Made, chunks: Mapping[str, Chunk]) -> bool:
    """Whether what is asked has a word that names something in its chunk, its headings or its document's name.

    What the documents do not tell stands nowhere in them: there any word that names something will do.
    """
    asked = content_words(asked_in(made.messages))
    if not made.answered:
        return bool(asked)
    told = {
        word
        for name in made.chunks
        for word in content_words("\n".join([chunks[name].document, *chunks[name].headings, chunks[name].text]))
    }
    return not asked.isdisjoint(told)


class Repeats:
    """Finds near-repeats of what it has seen: MinHash over the words and pairs of words of question and answer.

    Conversations of which one has a word or number that names something, and the other has not, are none.
    """

    def __init__(self) -> None:
        from datasketch import MinHashLSH

        self._index = MinHashLSH(threshold=NEAR - 0.1, num_perm=PERMUTATIONS)
        self._seen: list[tuple[frozenset[str], frozenset[str]]] = []

    def seen(self, messages: Sequence[Message]) -> bool:
        """Whether a conversation nearly repeats an earlier one."""
        asked, said = _both(messages)
        earlier = sorted(int(str(at)) for at in self._index.query(_signature(asked, said)))
        return any(_near(asked, self._seen[at][0]) and _near(said, self._seen[at][1]) for at in earlier)

    def see(self, messages: Sequence[Message]) -> None:
        """Remember a conversation."""
        asked, said = _both(messages)
        self._index.insert(str(len(self._seen)), _signature(asked, said))
        self._seen.append((asked, said))


def _both(messages: Sequence[Message]) -> tuple[frozenset[str], frozenset[str]]:
    return _shingles(asked_in(messages)), _shingles(messages[-1]["content"])


def _shingles(text: str) -> frozenset[str]:
    """The words of a text and each two that follow one another."""
    found = words(text)
    return frozenset(found) | {f"{a} {b}" for a, b in pairwise(found)}


def _signature(asked: frozenset[str], said: frozenset[str]) -> Any:
    from datasketch import MinHash

    signature = MinHash(num_perm=PERMUTATIONS, seed=1)
    signature.update_batch([f"q {part}".encode() for part in asked] + [f"a {part}".encode() for part in said])
    return signature


def _near(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two texts say the same: all words that name something are common to both, and most others."""
    return len(one & other) >= NEAR * len(one | other) and not content_words("\n".join(one ^ other))


class HeldOut:
    """Held-out questions, which no exercise may ask: the question or its near-repeat, or 13 words of one in a row."""

    def __init__(self, conversations: Iterable[Sequence[Message]]) -> None:
        self._hasher, self._pairs = RunHasher(), Repeats()
        held = list(conversations)
        for messages in held:
            self._pairs.see(messages)
        self._asked = {tuple(words(_last(one))) for one in held}
        runs = [self._runs(one) for one in held]
        self._forbidden = np.unique(np.concatenate(runs)) if runs else np.zeros(0, np.uint64)

    def _runs(self, messages: Sequence[Message]) -> np.ndarray:
        return self._hasher.runs(self._hasher.codes(asked_in(messages)))

    def has(self, messages: Sequence[Message]) -> bool:
        """Whether a conversation asks what is held out, whatever it answers, or has 13 words in a row of a held-out question."""
        asked = [tuple(words(said["content"])) for said in messages if said["role"] == "user"]
        if not self._asked.isdisjoint(asked) or self._pairs.seen(messages):
            return True
        return bool(contains(self._forbidden, self._runs(messages)).any())


def _last(messages: Sequence[Message]) -> str:
    return next(said["content"] for said in reversed(messages) if said["role"] == "user")
