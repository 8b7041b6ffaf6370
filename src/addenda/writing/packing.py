"""Packing: documents to rows of tokens that never mix streams, in a seeded order that can be entered anywhere.

Order: each epoch reads each document once, cuts the stream into rows, and shuffles them in a buffer of
`shuffle_tokens` tokens (9 bytes each: ids, loss weight, document). A source smaller than the buffer is shuffled whole.
Every epoch begins at another offset (what stands before it comes last), so row bounds differ. The tail shorter than a
row is left out. Row k of epoch e depends on the source and the seed alone: resuming at (e, k) reads the epoch again up
to there, at the tokenizer's speed, and stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from addenda.core.errors import DataError
from addenda.telling.progress import tick
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts

#: tokens among which rows are shuffled
SHUFFLE = 2**20


@dataclass(frozen=True)
class Row:
    """Tokens of one row, [context + length] each: ids int32, loss weights uint8, document numbers int32.

    A token's weight is 1 where predicting it is learned from; a document's first token is never predicted. `taught`, int32, is
    there where a teacher has read the text: which of its rows speaks of the token, -1 where none does.
    """

    ids: np.ndarray
    weights: np.ndarray
    documents: np.ndarray
    taught: np.ndarray | None = None

    def copy(self) -> Row:
        """The row in memory of its own."""
        return self._of(lambda part: part.copy())

    def cut(self, start: int, end: int | None = None) -> Row:
        """A part of the row."""
        return self._of(lambda part: part[start:end])

    def join(self, other: Row) -> Row:
        """This row and another after it; one without tokens leaves no trace."""
        if not len(self):
            return other
        taught = None
        if self.taught is not None and other.taught is not None:
            taught = np.concatenate([self.taught, other.taught])
        return Row(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.weights, other.weights]),
            np.concatenate([self.documents, other.documents]),
            taught,
        )

    def _of(self, change: Callable[[np.ndarray], np.ndarray]) -> Row:
        taught = None if self.taught is None else change(self.taught)
        return Row(change(self.ids), change(self.weights), change(self.documents), taught)

    def __len__(self) -> int:
        return len(self.ids)


EMPTY = Row(np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.int32))


class Stream:
    """One source as packed rows of `length` tokens, each with the `context` tokens that stand before it.

    `code` tells apart the streams of one seed. Where a teacher has `taught` the text, it has left a row for each token that is
    learned, document after document, and the rows say which.
    """

    def __init__(
        self,
        source: Texts,
        encoder: Encoder,
        *,
        length: int,
        context: int = 0,
        seed: int = 0,
        code: int = 0,
        shuffle_tokens: int = SHUFFLE,
        taught: bool = False,
    ) -> None:
        self.source, self.encoder, self.taught = source, encoder, taught
        self.length, self.context, self.seed, self.code = length, context, seed, code
        self.capacity = max(1, shuffle_tokens // (length + context))

    def rows(self, epoch: int, skip: int = 0) -> Iterator[Row]:
        """The rows of an epoch in their order, after the first `skip`.

        Raises:
            DataError: the source is empty or shorter than one row, or cannot be read.
        """
        random = np.random.default_rng([self.seed, self.code, epoch])
        offset = int(random.integers(self.length)) if epoch else 0
        for number, row in enumerate(_shuffled(self._packed(offset), self.capacity, random)):
            if number >= skip:
                yield row

    def _packed(self, offset: int) -> Iterator[Row]:
        need, held, tokens, any_row = self.context + self.length, EMPTY, 0, False
        for document in _rotated(self._documents(), offset):
            held = held.join(document)
            tokens += len(document)
            while len(held) >= need:
                any_row = True
                yield held.cut(0, need).copy()
                held = held.cut(self.length)
        if not any_row:
            name = self.source.name
            if not tokens:
                raise DataError(f"'{name}' is empty: it holds no text")
            raise DataError(
                f"'{name}' is shorter than one sequence: it has {tokens} tokens, a row takes {need}; "
                "give more text or a smaller length"
            )

    def _documents(self) -> Iterator[Row]:
        before = 0
        for number, document in enumerate(self.encoder.documents(self.source), 1):
            tick()
            weights, taught = document.weights.copy(), None
            weights[:1] = 0
            if self.taught:
                learned = weights > 0
                taught = np.where(learned, before - 1 + np.cumsum(learned), -1).astype(np.int32)
                before += int(learned.sum())
            yield Row(document.ids, weights, np.full(len(document.ids), number, np.int32), taught)


def tokens_in(source: Texts, encoder: Encoder, most: int) -> int:
    """How many tokens a text has; no more of it is read than shows that it has `most` (what is more is not counted).

    Raises:
        DataError: it is empty, or cannot be read.
    """
    count = 0
    for document in encoder.documents(source):
        count += len(document.ids)
        if count >= most:
            return most
        tick()
    if not count:
        raise DataError(f"'{source.name}' is empty: it holds no text")
    return count


def _rotated(documents: Iterator[Row], offset: int) -> Iterator[Row]:
    """Documents with the first `offset` tokens moved to the end."""
    held: list[Row] = []
    for document in documents:
        if offset:
            head, document = document.cut(0, offset), document.cut(offset)
            held.append(head)
            offset -= len(head)
        if len(document):
            yield document
    yield from held


def _shuffled(rows: Iterator[Row], capacity: int, random: np.random.Generator) -> Iterator[Row]:
    held: list[Row] = []
    for row in rows:
        if len(held) < capacity:
            held.append(row)
            continue
        at = int(random.integers(capacity))
        yield held[at]
        held[at] = row
    for at in random.permutation(len(held)):
        yield held[at]


def shuffled_among(tokens: int) -> int:
    """The tokens among which a run of so many shuffles its rows: a short one is not to wait for a million to be tokenized."""
    return min(SHUFFLE, 32 * tokens)


class Feed:
    """A stream read on and on, epoch after epoch, from a position (epoch, row)."""

    def __init__(self, stream: Stream, epoch: int = 0, row: int = 0) -> None:
        self.stream, self.epoch, self.row = stream, epoch, row
        self._rows: Iterator[Row] | None = None

    def take(self) -> Row:
        """The next row; the position moves on."""
        if self._rows is None:
            self._rows = self.stream.rows(self.epoch, self.row)
        row = next(self._rows, None)
        if row is None:
            self.epoch, self.row, self._rows = self.epoch + 1, 0, None
            return self.take()
        self.row += 1
        return row

    @property
    def position(self) -> list[int]:
        """[epoch, row], for a checkpoint."""
        return [self.epoch, self.row]

    def move_to(self, position: Sequence[int]) -> None:
        """Go on from a position."""
        (self.epoch, self.row), self._rows = position, None


def is_replay(number: int, share: float) -> bool:
    """Whether row `number` of a run is a replay row: the running share never strays a whole row from `share`."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)
