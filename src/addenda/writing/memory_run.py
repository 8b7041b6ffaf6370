"""The run of `memorize`: chunk after chunk of each text, checkpoints, and the way back into an interrupted run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from addenda.core.errors import TrainingError
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.writing import checkpoint
from addenda.writing.curve import Curve
from addenda.writing.keeping import check_numbers, identity_of, kept_tensors, put_back
from addenda.writing.memory_settings import MemorySettings
from addenda.writing.packing import Feed
from addenda.writing.reading import Chunk, Reading
from addenda.writing.run_log import RunLog
from addenda.writing.settings import compare
from addenda.writing.signals import TrainingStopped
from addenda.writing.writer import Writer, together

if TYPE_CHECKING:
    from addenda.plug.base import Base


class MemoryRun:
    """From the first chunk, or from a checkpoint, to the end of the longest text."""

    def __init__(
        self,
        base: Base,
        readings: dict[str, Reading],
        writer: Writer,
        settings: MemorySettings,
        log: RunLog,
        folder: Path | None,
    ) -> None:
        self.base, self.readings, self.writer, self.settings = base, readings, writer, settings
        self.log, self.folder = log, folder
        self.tokens = {name: reading.tokens() for name, reading in readings.items()}
        self.lengths = {name: -(-tokens // settings.chunk) for name, tokens in self.tokens.items()}
        for name, length in self.lengths.items():
            if not length:
                next(readings[name].chunks())  # raises, and says what is wrong with the text
        self.longest = max(self.lengths.values())
        self.steps = self.longest * settings.passes
        self.window = next(iter(readings.values())).window
        self.curves = {name: Curve() for name in readings}
        self.step = 0
        self.read = 0  # tokens, of all texts and passes
        self.last = 0.0  # nats per token of the last chunk, before it was written
        self.resumed_from: int | None = None
        self.saved = -1
        self.seconds = self.bare_seconds = 0.0
        self.identity = self._identity() if folder is not None else {}
        log.shown.begin(total=self.steps)

    def go(self, interrupts: Interrupts, *, finish: bool = False) -> None:
        """Read to the end, or to a signal; with `finish` read nothing more.

        Raises:
            TrainingStopped: a signal came; the chunk it came in was written and a checkpoint too.
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good one is kept.
        """
        self.log.shown.begin(self.step, self.steps)
        try:
            if not finish:
                self._read_on(interrupts)
        except Stopped as stopped:
            self._leave(stopped.signal)
        self.save()

    def _read_on(self, interrupts: Interrupts) -> None:
        began, before = time.perf_counter(), self.read
        every = self.settings.checkpoint_every or max(1, self.steps // 20)
        for chunks in self._chunks():
            with interrupts.held():
                self._one(chunks)
            speed = (self.read - before) / (time.perf_counter() - began)
            self.log.shown.update(self.step, rate=f"{speed:,.0f} tokens/s", note=self._told())
            if self.step % every == 0:
                self._note()
                self.save()
            if interrupts.seen is not None and self.step < self.steps:
                self._leave(interrupts.seen)

    def _told(self) -> str:
        """What is remarked beside the bar."""
        passes = self.settings.passes
        which = f"pass {(self.step - 1) // self.longest + 1} of {passes}, " if passes > 1 else ""
        return f"{which}loss {self.last:.3f} before it was written"

    def _chunks(self) -> Iterator[list[tuple[str, Chunk]]]:
        """From where the run stands, the next chunk of every text that has one left."""
        while self.step < self.steps:
            at = self.step % self.longest
            streams = {name: reading.chunks(at) for name, reading in self.readings.items() if at < self.lengths[name]}
            for _ in range(at, self.longest):
                chunks = [(name, next(stream, None)) for name, stream in streams.items()]
                yield [(name, chunk) for name, chunk in chunks if chunk is not None]

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
            fresh = sum(chunk.fresh for _, chunk in rows)
            self.read, self.last = self.read + fresh, sum(nats.values()) / fresh
        self.step += 1

    def _note(self) -> None:
        """A record in the log: how each text has been predicted so far."""
        record: dict[str, Any] = {"step": self.step}
        for name, curve in self.curves.items():
            tokens, nats, bare = curve.totals()
            record[name] = {"tokens": tokens, "online": nats / max(1, tokens), "bare": bare / max(1, tokens)}
        self.log.note(record)

    @property
    def at(self) -> str:
        """Where the run stands, in words."""
        return f"chunk {self.step} of {self.steps}"

    @property
    def ended(self) -> str | None:
        """How a run ended that read less than was planned; None where it read all."""
        return None if self.step == self.steps else f"finished early, at {self.at}"

    def promise(self) -> str:
        """What happens when a signal comes, in words."""
        kept = "nothing is on disk" if self.folder is None else f"a checkpoint is kept in {self.folder}"
        return f"stopping after chunk {self.step + 1} of {self.steps}; {kept}"

    def _leave(self, signal: str) -> None:
        self.save()
        raise TrainingStopped.after(self.at, signal, self.folder)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, once for each chunk.

        Raises:
            TrainingError: the memories are not finite, or it cannot be written.
        """
        check_numbers(self.base, self.writer.names, self.at)
        if self.folder is None or self.saved == self.step:
            return
        self.saved = self.step
        tensors: dict[str, Tensor] = kept_tensors(self.base, self.writer.names, self.writer.optimizers)
        checkpoint.write(self.folder, self.step, self.state(), tensors, self.settings.keep)

    def state(self) -> dict[str, Any]:
        """All that changes between chunks but tensors, as plain data."""
        return {
            "identity": self.identity,
            "curves": {name: curve.plain() for name, curve in self.curves.items()},
            "replay": None if self.writer.replay is None else self.writer.replay.position,
            "seconds": [self.seconds, self.bare_seconds],
            "read": self.read,
        }

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one.

        Raises:
            TrainingError: the run began with other settings, or no checkpoint can be read.
        """
        newest = None if self.folder is None else checkpoint.newest(self.folder)
        if newest is None:
            self.log.say("nothing to resume yet: starting at the beginning")
            return
        self._take_up(newest.step, newest.state)
        self.saved = self.step
        put_back(self.base, self.writer.names, self.writer.optimizers, newest.tensors)

    def take_up_finished(self, state: dict[str, Any]) -> None:
        """Take up a run that is finished from what it left beside its log; its memories are read by who calls.

        Raises:
            TrainingError: the run began with other settings.
        """
        self._take_up(int(state["step"]), state)

    def _take_up(self, step: int, state: dict[str, Any]) -> None:
        compare(state["identity"], self.identity)
        self.step = self.resumed_from = step
        self.curves = {name: Curve(**plain) for name, plain in state["curves"].items()}
        self.seconds, self.bare_seconds = state["seconds"]
        self.read = state["read"]
        if self.writer.replay is not None:
            self.writer.replay = Feed(self.writer.replay.stream, *state["replay"])
        self.log.resume(step)

    def _identity(self) -> dict[str, Any]:
        """What a resumption must agree with, as plain data."""
        replay = self.writer.replay
        return {
            "names": list(self.readings),
            **identity_of(self.base, list(self.readings)),
            "text": {name: reading.source.identity() for name, reading in self.readings.items()},
            "replay": None if replay is None else replay.stream.source.identity(),
            "lr": self.writer.lr,
            **{k: v for k, v in self.settings.plain().items() if k not in ("lr", "window")},
            "window": self.window,
        }
