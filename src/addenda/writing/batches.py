"""Batches: which row comes from which stream, for which module, and the tensors that a forward pass takes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from addenda.telling.progress import tick
from addenda.writing.isolation import Way, inputs
from addenda.writing.packing import Feed, Row, Stream, is_replay


@dataclass(frozen=True)
class Item:
    """One row of a batch: its tokens, the module that learns from it, and whether it is replay."""

    row: Row
    owner: str
    replay: bool


class Mixture:
    """Corpus rows with a share of replay rows between them, for one or several modules.

    Every module has its own corpus and sees the rows that it would see alone; replay rows are the same for all.
    """

    def __init__(self, corpora: Mapping[str, Feed], replay: Feed | None, share: float) -> None:
        self.corpora, self.replay, self.share = dict(corpora), replay, share if replay is not None else 0.0
        self.number = 0
        self.crc = 0

    def take(self, rows: int) -> list[Item]:
        """The next `rows` rows of each module, module after module."""
        by_owner: dict[str, list[Item]] = {owner: [] for owner in self.corpora}
        for _ in range(rows):
            again = self.replay is not None and is_replay(self.number, self.share)
            same = self.replay.take() if again and self.replay is not None else None
            for owner, feed in self.corpora.items():
                row = same if same is not None else feed.take()
                self.crc = zlib.crc32(row.ids.tobytes(), self.crc)
                by_owner[owner].append(Item(row, owner, again))
            self.number += 1
        return [item for items in by_owner.values() for item in items]

    @property
    def position(self) -> dict[str, Any]:
        """Where the run stands in its data; `crc` sums up every row so far."""
        return {
            "number": self.number,
            "crc": self.crc,
            "corpora": {owner: feed.position for owner, feed in self.corpora.items()},
            "replay": None if self.replay is None else self.replay.position,
        }

    def read(self, owner: str, stream: Stream) -> None:
        """From now on a module's corpus is another, from its beginning."""
        self.corpora[owner] = Feed(stream)

    def move_to(self, position: Mapping[str, Any]) -> None:
        """Go on from a position."""
        self.number, self.crc = position["number"], position["crc"]
        for owner, feed in self.corpora.items():
            feed.move_to(position["corpora"][owner])
        if self.replay is not None:
            self.replay.move_to(position["replay"])


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass over B rows of C + T tokens; the first C are read by a teacher alone.

    `ids`, `documents` LongTensor [B, C + T]; `weights` float32 [B, C + T]; `replay` BoolTensor [B]; `owners` the
    module of each row; `dtype` the base's; `isolate` how documents are kept apart, None where they see one another; `taught`
    LongTensor [B, C + T] which row a teacher has left for a token, -1 where none; None where no teacher has read any row.
    """

    ids: Tensor
    documents: Tensor
    weights: Tensor
    replay: Tensor
    owners: tuple[str, ...]
    context: int
    dtype: torch.dtype = torch.float32
    isolate: Way | None = None
    taught: Tensor | None = None

    def student(self) -> dict[str, Tensor]:
        """What the model reads: the last T tokens but one, with positions where documents are isolated."""
        return self._inputs(self.context)

    def teacher(self) -> dict[str, Tensor]:
        """What the teacher reads: all tokens but the last."""
        return self._inputs(0)

    def _inputs(self, start: int) -> dict[str, Tensor]:
        given = {"ids": self.ids[:, start:-1]}
        if self.isolate is not None:
            given |= inputs(self.isolate, self.documents[:, start:-1], self.dtype)
        return given

    @property
    def targets(self) -> Tensor:
        """The tokens to predict [B, T - 1]."""
        return self.ids[:, self.context + 1 :]

    @property
    def target_weights(self) -> Tensor:
        """Their weights [B, T - 1]."""
        return self.weights[:, self.context + 1 :]

    @property
    def target_rows(self) -> Tensor | None:
        """What a teacher has left for them [B, T - 1], as `taught` says it."""
        return None if self.taught is None else self.taught[:, self.context + 1 :]

    @property
    def seen_documents(self) -> Tensor:
        """Document numbers of what the student reads [B, T - 1]."""
        return self.documents[:, self.context : -1]

    def at(self, rows: list[int]) -> Batch:
        """Some of the rows."""
        names = ["ids", "documents", "weights", "replay", *(["taught"] if self.taught is not None else [])]
        tensors = {name: getattr(self, name)[rows] for name in names}
        return replace(self, owners=tuple(self.owners[row] for row in rows), **tensors)

    def rows_of(self, owner: str) -> list[int]:
        """The rows that a module learns from."""
        return [row for row, name in enumerate(self.owners) if name == owner]


def stack(
    items: list[Item],
    device: torch.device,
    *,
    context: int = 0,
    dtype: torch.dtype = torch.float32,
    isolate: Way | None = None,
) -> Batch:
    """One batch from rows; `dtype` is that of the base. Between two batches is where long work may be stopped.

    Raises:
        Stopped: a signal came, and whoever began the work waits for it.
    """
    tick(sum(len(item.row) for item in items))

    def tensor(name: str, dtype: Any) -> Tensor:
        return torch.from_numpy(np.stack([getattr(item.row, name) for item in items]).astype(dtype)).to(device)

    taught = None
    if any(item.row.taught is not None for item in items):
        rows = [np.full(len(row), -1, np.int64) if row.taught is None else row.taught for row in (i.row for i in items)]
        taught = torch.from_numpy(np.stack(rows).astype(np.int64)).to(device)
    return Batch(
        tensor("ids", np.int64),
        tensor("documents", np.int64),
        tensor("weights", np.float32),
        torch.tensor([item.replay for item in items], device=device),
        tuple(item.owner for item in items),
        context,
        dtype,
        isolate,
        taught,
    )
