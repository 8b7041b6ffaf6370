"""The streaming writer: scores each chunk of its texts with what is known so far, then writes it into the memories."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda.core.call import Collector
from addenda.core.errors import TrainingError
from addenda.core.registry import asked_for
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from addenda.penalties.gate import gate_penalty
from addenda.penalties.local import local_penalty
from addenda.plug.scoring import cast
from addenda.writes.write_rule import Pace, Writing
from addenda.writing.memory_settings import MemorySettings
from addenda.writing.packing import Feed, Row
from addenda.writing.reading import Chunk

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: a chunk of each of some memories, all of one shape: they ride in one batch
Rows = Sequence[tuple[str, Chunk]]


@dataclass
class Writer:
    """Writes chunks into plugged modules, each with an optimizer of its own.

    The context of a chunk is read first, without a gradient, into a cache; the fresh tokens are then read once, and the
    same pass gives their score and the gradient of the write. So a write costs little more than reading the window.
    """

    base: Base
    names: tuple[str, ...]
    lr: dict[str, float]
    settings: MemorySettings
    replay: Feed | None

    def __post_init__(self) -> None:
        with self.base.off():
            self.head = Head(self.base.model, self.settings.loss_chunk)
        self.lm = asked_for(Objective, "lm")
        self.device: torch.device = self.base.device
        clip = math.inf if self.settings.clip is None else self.settings.clip
        self.rules = {name: self.settings.rule(self.base.modules[name]) for name in self.names}
        #: each module's rule at work
        self.hands: dict[str, Writing] = {
            name: rule.over(
                self.base.modules[name],
                Pace(self.lr[name], self.settings.steps, clip, self.settings.weight_decay),
            )
            for name, rule in self.rules.items()
        }

    def take(self, rows: Rows, write: bool) -> dict[str, float]:
        """Score the fresh tokens of each chunk, then write them; nats by name, as they were before the write.

        Raises:
            TrainingError: a loss or a gradient is not finite; that memory is then as it was before the step.
        """
        if not write:
            with torch.no_grad():
                return self._read(rows)[1]
        by_rule: dict[tuple[int, bool], list[tuple[str, Chunk]]] = {}
        for name, chunk in rows:
            by_rule.setdefault((self.hands[name].passes, self.rules[name].replayed), []).append((name, chunk))
        nats: dict[str, float] = {}
        for (passes, replayed), some in by_rule.items():
            for _ in range(passes):
                nats = self._written(some, replayed) | nats  # of each chunk as it was before the first
        return nats

    def _written(self, rows: Rows, replayed: bool) -> dict[str, float]:
        """Read chunks and write them, once; nats by name, as they were before."""
        with ExitStack() as stack:
            for name, _ in rows:
                stack.enter_context(self.hands[name].collect())
            loss, nats = self._read(rows)
        if replayed:
            with cast(self.device, self.settings.precision):
                loss = loss + self._quiet([name for name, _ in rows])
        self._check(rows, nats)
        if loss.requires_grad:  # not where every gate is shut: then nothing learns from this chunk
            loss.backward()
        for name, chunk in rows:
            self.hands[name].apply(chunk.fresh)
        return nats

    @torch.no_grad()
    def bare(self, rows: Rows) -> dict[str, float]:
        """Nats of the fresh tokens by name, as the bare base predicts them from the same window."""
        ids, fresh = self._ids(rows)
        with self.base.off(), cast(self.device, self.settings.precision):
            hidden = self.head.hidden(ids[:, :-1])[:, -fresh:]
            _, costs = self._costs(hidden, ids[:, -fresh:])
        return dict(zip((name for name, _ in rows), costs.double().sum(1).tolist(), strict=True))

    def _read(self, rows: Rows) -> tuple[Tensor, dict[str, float]]:
        """The sum over rows of the mean loss of their fresh tokens, and each row's nats."""
        ids, fresh = self._ids(rows)
        before = ids.shape[1] - 1 - fresh
        collector = self._collector(len(rows), fresh)
        with cast(self.device, self.settings.precision), self._selected([name for name, _ in rows]):
            given = {"past_key_values": self.head.cache(ids[:, :before]), "use_cache": True} if before else {}
            with self.base.watching(collector=collector):
                hidden = self.head.hidden(ids[:, before:-1], **given)
            loss, costs = self._costs(hidden, ids[:, -fresh:])
        if collector is not None:
            for name, _ in rows:
                loss = loss + self._gate(name, collector, torch.tensor([0.0, float(len(rows))], device=self.device))
        return loss, dict(zip((name for name, _ in rows), costs.double().sum(1).tolist(), strict=True))

    def _costs(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.full(targets.shape, 1.0 / targets.shape[1], device=self.device)
        total, costs = self.head.costs(self.lm, hidden.flatten(0, 1), targets.flatten(), weights.flatten())
        return total, costs.view(targets.shape)

    def _quiet(self, names: list[str]) -> Tensor:
        """What the memories do to replay text, weighted; zero where there is none."""
        total = torch.zeros((), device=self.device)
        if self.replay is None:
            return total
        row: Row = self.replay.take()
        ids = torch.from_numpy(row.ids.astype(np.int64)).to(self.device).expand(len(names), -1)
        documents = torch.from_numpy(row.documents.astype(np.int64)).to(self.device).expand(len(names), -1)
        collector = Collector(torch.ones(ids.shape, device=self.device), within=not self.settings.through)
        with self._selected(names), self.base.watching(collector=collector, documents=documents):
            self.head.decoder(input_ids=ids, use_cache=False)
        for name in names:
            module = self.base.modules[name]
            local = local_penalty(collector.deltas.get(name, ()), len(module.adapters)).to(self.device)
            total = total + self.settings.local * local * len(names)  # the collector means over all rows
            total = total + self._gate(name, collector, torch.tensor([float(len(names)), 0.0], device=self.device))
        return total

    def _gate(self, name: str, collector: Collector, shares: Tensor) -> Tensor:
        if not self.base.modules[name].classifies:
            return torch.zeros((), device=self.device)
        return self.settings.gate_weight * gate_penalty(collector.gates.get(name, ()), shares).to(self.device)

    def _collector(self, rows: int, fresh: int) -> Collector | None:
        """A collector of what gates do on the text, where there are any to hold open."""
        gated = self.replay is not None and any(self.base.modules[name].classifies for name in self.names)
        if not gated or not torch.is_grad_enabled():
            return None
        ones = torch.ones(rows, fresh, device=self.device)
        return Collector(torch.zeros_like(ones), ones)

    def _ids(self, rows: Rows) -> tuple[Tensor, int]:
        """Token ids [N, C + T] and T, the number of fresh ones."""
        ids = torch.from_numpy(np.stack([chunk.ids for _, chunk in rows]).astype(np.int64)).to(self.device)
        return ids, rows[0][1].fresh

    def _selected(self, names: list[str]) -> Any:
        return self.base.using({names[0]: 1.0}) if len(names) == 1 else self.base.rows([{name: 1.0} for name in names])

    def _check(self, rows: Rows, nats: dict[str, float]) -> None:
        for name, _ in rows:
            if not math.isfinite(nats[name]):
                raise TrainingError(
                    f"the loss of '{name}' is not finite; its memory is as it was before this step. A smaller lr "
                    f"(now {self.lr[name]:g}) or precision='fp32' may help"
                )


def together(chunks: Sequence[tuple[str, Chunk]]) -> Iterator[Rows]:
    """Chunks in groups of one shape, in the order of the first of each."""
    shapes: dict[tuple[int, int], list[tuple[str, Chunk]]] = {}
    for name, chunk in chunks:
        shapes.setdefault((len(chunk.ids), chunk.fresh), []).append((name, chunk))
    yield from shapes.values()
