"""The run of `memorize`: chunk after chunk of each text, checkpoints, and the way back into an interrupted run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from addenda.core.errors import TrainingError
from addenda.core.registry import plain_options
from addenda.writing import checkpoint
from addenda.writing.curve import Curve
from addenda.writing.keeping import kept_tensors, put_back
from addenda.writing.memory_settings import MemorySettings
from addenda.writing.packing import Feed
from addenda.writing.progress import Progress
from addenda.writing.reading import Chunk, Reading
from addenda.writing.settings import compare
from addenda.writing.signals import Interrupts, TrainingStopped
from addenda.writing.writer import Writer, together

if TYPE_CHECKING:
    from addenda.plugging import Base


class MemoryRun:
    """From the first chunk, or from a checkpoint, to the end of the longest text."""

    def __init__(
        self,
        base: Base,
        readings: dict[str, Reading],
        writer: Writer,
        settings: MemorySettings,
        progress: Progress,
        folder: Path | None,
    ) -> None:
        self.base, self.readings, self.writer, self.settings = base, readings, writer, settings
        self.progress, self.folder = progress, folder
        self.lengths = {name: -(-reading.tokens() // settings.chunk) for name, reading in readings.items()}
        for name, length in self.lengths.items():
            if not length:
                next(readings[name].chunks())  # raises, and says what is wrong with the text
        self.longest = max(self.lengths.values())
        self.steps = self.longest * settings.passes
        self.window = next(iter(readings.values())).window
        self.curves = {name: Curve() for name in readings}
        self.step = 0
        self.resumed_from: int | None = None
        self.saved = -1
        self.seconds = self.bare_seconds = 0.0
        self.identity = self._identity() if folder is not None else {}
        progress.steps(self.steps)

    def go(self, interrupts: Interrupts) -> None:
        """Read to the end, or to a signal.

        Raises:
            TrainingStopped: a signal came; the chunk it came in was written and a checkpoint too.
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good one is kept.
        """
        self.progress.begin(self.step)
        began, first = time.perf_counter(), self.step
        every = self.settings.checkpoint_every or max(1, self.steps // 20)
        for chunks in self._chunks():
            self._one(chunks)
            speed = (self.step - first) * self.settings.chunk * len(self.readings) / (time.perf_counter() - began)
            self.progress.step(self.step, self._recent(), speed)
            if self.step % every == 0:
                self._note()
                self.save()
            if interrupts.seen is not None and self.step < self.steps:
                self._leave(interrupts.seen)
        self.save()

    def _chunks(self) -> Iterator[list[tuple[str, Chunk]]]:
        """From where the run stands, the next chunk of every text that has one left."""
        while self.step < self.steps:
            at = self.step % self.longest
            streams = {name: reading.chunks(at) for name, reading in self.readings.items() if at < self.lengths[name]}
            for _ in range(at, self.longest):
                found = [(name, next(stream, None)) for name, stream in streams.items()]
                yield [(name, chunk) for name, chunk in found if chunk is not None]

    def _one(self, chunks: list[tuple[str, Chunk]]) -> None:
        first = self.step < self.longest
        for rows in together(chunks):
            began = time.perf_counter()
            try:
                nats = self.writer.take(rows, write=(self.step + 1) % self.settings.every == 0)
            except TrainingError as error:
                raise TrainingError(f"{error}{checkpoint.last_good(self.folder)}") from None
            written = time.perf_counter()
            bare = self.writer.bare(rows) if self.settings.baseline and first else dict.fromkeys(nats, 0.0)
            self.seconds += written - began
            self.bare_seconds += time.perf_counter() - written
            for name, chunk in rows if first else ():
                self.curves[name].add(chunk.fresh, nats[name], bare[name])
        self.step += 1

    def _recent(self) -> float:
        bins = [curve.bins[-1] for curve in self.curves.values() if curve.bins]
        return sum(nats for _, nats, _ in bins) / max(1.0, sum(tokens for tokens, _, _ in bins))

    def _note(self) -> None:
        """A record in the log: how each text has been predicted so far."""
        record: dict[str, Any] = {"step": self.step}
        for name, curve in self.curves.items():
            tokens, nats, bare = curve.totals()
            record[name] = {"tokens": tokens, "online": nats / max(1, tokens), "bare": bare / max(1, tokens)}
        self.progress.note(record)

    def _leave(self, signal: str) -> None:
        self.save()
        raise TrainingStopped.after(f"chunk {self.step} of {self.steps}", signal, self.folder)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, once for each chunk."""
        if self.folder is None or self.saved == self.step:
            return
        self.saved = self.step
        state: dict[str, Any] = {
            "identity": self.identity,
            "curves": {name: curve.plain() for name, curve in self.curves.items()},
            "replay": None if self.writer.replay is None else self.writer.replay.position,
            "seconds": [self.seconds, self.bare_seconds],
        }
        tensors: dict[str, Tensor] = kept_tensors(self.base, self.writer.names, self.writer.optimizers)
        checkpoint.write(self.folder, self.step, state, tensors, self.settings.keep)

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one.

        Raises:
            TrainingError: the run began with other settings, or no checkpoint can be read.
        """
        found = None if self.folder is None else checkpoint.newest(self.folder)
        if found is None:
            self.progress.say("nothing to resume yet: starting at the beginning")
            return
        compare(found.state["identity"], self.identity)
        self.step = self.saved = self.resumed_from = found.step
        self.curves = {name: Curve(**plain) for name, plain in found.state["curves"].items()}
        self.seconds, self.bare_seconds = found.state["seconds"]
        if self.writer.replay is not None:
            self.writer.replay = Feed(self.writer.replay.stream, *found.state["replay"])
        put_back(self.base, self.writer.names, self.writer.optimizers, found.tensors)
        self.progress.resume(found.step)

    def _identity(self) -> dict[str, Any]:
        """What a resumption must agree with, as plain data."""
        kinds = {name: self.base.modules[name].kind for name in self.readings}
        replay = self.writer.replay
        return {
            "names": list(self.readings),
            "modules": {name: [type(kind).__name__, plain_options(kind)] for name, kind in kinds.items()},
            "base": self.base.fingerprint,
            "text": {name: reading.source.identity() for name, reading in self.readings.items()},
            "replay": None if replay is None else replay.stream.source.identity(),
            "lr": self.writer.lr,
            **{k: v for k, v in self.settings.plain().items() if k not in ("lr", "window")},
            "window": self.window,
        }
