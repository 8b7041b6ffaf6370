"""The run of `memorize`: chunk after chunk of each text, each scored and then written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.writing.curve import Curve
from addenda.writing.keeping import Optimizers, identity_of
from addenda.writing.loop import ModuleRun
from addenda.writing.memory_settings import MemorySettings
from addenda.writing.reading import Chunk, Reading
from addenda.writing.run_log import RunLog
from addenda.writing.writer import Writer, together

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: the next chunk of every text that has one left
Chunks = list[tuple[str, Chunk]]


class MemoryRun(ModuleRun):
    """From the first chunk to the end of the longest text, as often as it is read."""

    unit = "chunk"

    def __init__(
        self,
        base: Base,
        readings: dict[str, Reading],
        writer: Writer,
        settings: MemorySettings,
        log: RunLog,
        folder: Path | None,
    ) -> None:
        self.readings, self.writer, self.options = readings, writer, settings
        self.tokens = {name: reading.tokens for name, reading in readings.items()}
        self.lengths = {name: reading.steps for name, reading in readings.items()}
        self.longest = max(self.lengths.values())
        super().__init__(base, writer.names, settings, self.longest * settings.passes, log, folder)
        self.window = next(iter(readings.values())).window
        self.curves = {name: Curve() for name in readings}
        self.source = writer.replay  # the texts stand where the steps do
        self.last = 0.0  # nats per token of the last chunk, before it was written
        self.stream: Iterator[Chunks] | None = None
        self.identity = self._identity() if folder is not None else {}

    # -- steps -------------------------------------------------------------------------------------------------

    def take(self) -> Chunks:
        """The next chunk of every text."""
        self.stream = self.stream or self._chunks()
        return next(self.stream)

    def _chunks(self) -> Iterator[Chunks]:
        """Chunks from where the run stands."""
        texts: dict[str, Iterator[Chunk]] = {}
        began = self.step
        for step in range(began, self.steps):
            at = step % self.longest
            if at == 0 or step == began:
                texts = {name: one.chunks(at) for name, one in self.readings.items() if at < self.lengths[name]}
            chunks = [(name, next(text, None)) for name, text in texts.items()]
            yield [(name, chunk) for name, chunk in chunks if chunk is not None]

    def write(self, rows: Chunks) -> int:
        """Score each chunk, and write it."""
        first = self.step < self.longest
        for some in together(rows):
            nats = self.writer.take(some, write=(self.step + 1) % self.options.every == 0)
            written = time.perf_counter()
            bare = self.writer.bare(some) if self.options.baseline and first else dict.fromkeys(nats, 0.0)
            self.aside += time.perf_counter() - written
            for name, chunk in some if first else ():
                self.curves[name].add(chunk.fresh, nats[name], bare[name])
            fresh = sum(chunk.fresh for _, chunk in some)
            self.last = sum(nats.values()) / fresh
        return sum(chunk.fresh for _, chunk in rows)

    def told(self) -> str:
        """The loss, beside the bar."""
        passes = self.options.passes
        which = f"pass {(self.step - 1) // self.longest + 1} of {passes}, " if passes > 1 else ""
        return f"{which}loss {self.last:.3f} before it was written"

    def record(self, speed: float) -> dict[str, Any]:
        """How each text has been predicted so far."""
        record: dict[str, Any] = {}
        for name, curve in self.curves.items():
            tokens, nats, bare = curve.totals()
            record[name] = {"tokens": tokens, "online": nats / max(1, tokens), "bare": bare / max(1, tokens)}
        return record

    # -- checkpoints -------------------------------------------------------------------------------------------

    @property
    def optimizers(self) -> Optimizers:
        """Those of each memory's rule."""
        return {name: hand.optimizers for name, hand in self.writer.hands.items()}

    def state(self) -> dict[str, Any]:
        """All that changes between chunks but tensors, as plain data."""
        return super().state() | {"curves": {name: curve.plain() for name, curve in self.curves.items()}}

    def take_up(self, step: int, state: Mapping[str, Any]) -> None:
        """Stand where a run stood after a chunk."""
        super().take_up(step, {"position": state.get("replay"), **state})  # as version 0.1 called it
        self.curves = {name: Curve(**plain) for name, plain in state["curves"].items()}

    def _identity(self) -> dict[str, Any]:
        """What a resumption must agree with, as plain data."""
        replay = self.writer.replay
        return {
            "names": list(self.readings),
            **identity_of(self.base, list(self.readings)),
            "text": {name: reading.source.identity() for name, reading in self.readings.items()},
            "replay": None if replay is None else replay.stream.source.identity(),
            "lr": self.writer.lr,
            **{k: v for k, v in self.options.plain().items() if k not in ("lr", "window")},
            "window": self.window,
        }
