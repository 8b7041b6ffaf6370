"""The loop of every run: steps, checkpoints, and the way back into an interrupted run."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from addenda.core.errors import TrainingError
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.writing import checkpoint
from addenda.writing.distributed import Processes
from addenda.writing.keeping import Optimizers, check_numbers, kept_tensors, put_back
from addenda.writing.run_log import RunLog
from addenda.writing.settings import RunSettings, compare
from addenda.writing.signals import TrainingStopped

if TYPE_CHECKING:
    from addenda.plug.base import Base


class Source(Protocol):
    """Where rows come from: something that can be entered anywhere."""

    @property
    def position(self) -> Any:
        """Where it stands, as plain data."""
        ...

    def move_to(self, position: Any) -> None:
        """Go on from a position."""
        ...


class Run(ABC):
    """A run from its first step, or from a checkpoint, to its end; a subclass says what a step reads and what it changes.

    All that changes between steps is saved with it. `seconds` are those of all calls of a resumed run, `seconds_here` those of
    this one, both without what was spent `aside`, on measuring.
    """

    #: what a checkpoint keeps as it is, by the attributes' names
    remembered: ClassVar[tuple[str, ...]] = ("read",)
    #: what a step is called, and what is left of it where no folder is written
    unit: ClassVar[str] = "step"
    unkept: ClassVar[str] = "nothing is on disk"

    def __init__(
        self, settings: RunSettings, steps: int, log: RunLog, folder: Path | None, processes: Processes | None = None
    ) -> None:
        self.settings, self.steps, self.log, self.folder = settings, steps, log, folder
        self.processes = processes or Processes()
        self.step = self.read = 0  # steps taken, and tokens read in them, of all passes and calls
        self.source: Source | None = None
        self.saved = -1
        self.resumed_from: int | None = None
        self.stopped_early = False
        self.seconds = self.seconds_here = self.aside = 0.0
        self.identity: dict[str, Any] = {}

    # -- what a subclass says ----------------------------------------------------------------------------------

    @abstractmethod
    def take(self) -> Any:
        """What the next step reads."""

    @abstractmethod
    def write(self, rows: Any) -> int:
        """Take a step, which is finished whatever comes; returns the tokens read.

        Raises:
            TrainingError: a loss is not finite; parameters are then as they were before.
        """

    @abstractmethod
    def check(self) -> None:
        """Refuse to keep what a step has made no numbers of.

        Raises:
            TrainingError: it has.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that changes between steps."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `tensors` gave."""

    def told(self) -> str:
        """What is remarked beside the bar."""
        return ""

    def record(self, speed: float) -> dict[str, Any]:
        """A record for the log, at a speed in tokens a second; an empty one is not written."""
        return {}

    def measure(self) -> None:
        """What is measured after a step, before it is kept; the seconds of that go `aside`."""
        return

    def ready(self) -> None:
        """What comes before a step."""
        return

    def begin(self, finish: bool) -> None:
        """What comes before the first step of a call; with `finish` none follows."""
        return

    def end(self) -> None:
        """What comes once the last step is taken, and kept."""
        return

    def release(self) -> None:
        """What is put away however the run ends."""
        return

    def clear(self) -> int:
        """Remove what a finished run no longer needs beside its checkpoints; returns how many bytes that were."""
        return 0

    # -- going -------------------------------------------------------------------------------------------------

    def go(self, interrupts: Interrupts, *, finish: bool = False) -> None:
        """Step to the end, to an early stop, or to a signal; with `finish` take no further step.

        Raises:
            TrainingStopped: a signal came; the step it came in was finished and a checkpoint written.
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good one is kept.
        """
        try:
            self.begin(finish)
            self.log.shown.begin(self.step, self.steps)
            if not finish:
                self._steps(interrupts)
            self.save()
            self.end()
        except Stopped as stopped:
            self._leave(stopped.signal)

    def _steps(self, interrupts: Interrupts) -> None:
        began, first, before, aside = time.perf_counter(), self.read, self.seconds, self.aside
        while self.step < self.steps and not self.stopped_early:
            self._one(interrupts)
            elapsed = time.perf_counter() - began - (self.aside - aside)
            self.seconds, self.seconds_here = before + elapsed, elapsed
            speed = (self.read - first) / elapsed
            self.log.shown.update(self.step, rate=f"{speed:,.0f} tokens/s", note=self.told())
            self._after(speed)
            stop = self.processes.any(interrupts.seen is not None)
            if stop and self.step < self.steps and not self.stopped_early:
                self._leave(interrupts.seen or "a signal")

    def _one(self, interrupts: Interrupts) -> None:
        self.ready()
        before = self.position
        try:
            rows = self.take()
        except Stopped:
            if self.source is not None:
                self.source.move_to(before)
            raise
        try:
            with interrupts.held():
                read = self.write(rows)
        except TrainingError as error:
            raise TrainingError(f"{error}{checkpoint.last_good(self.folder)}") from None
        self.step, self.read = self.step + 1, self.read + read

    def _after(self, speed: float) -> None:
        """What is due after a step: the log, what is measured, a checkpoint."""
        if self.step == self.steps or self.step % max(1, self.steps // 100) == 0:
            record = self.record(speed)
            if record:
                self.log.note({"step": self.step, **record})
        self.measure()
        if self.step % (self.settings.checkpoint_every or max(1, self.steps // 20)) == 0:
            self.save()

    @property
    def at(self) -> str:
        """Where the run stands, in words."""
        return f"{self.unit} {self.step} of {self.steps}"

    @property
    def ended(self) -> str | None:
        """How a run ended that took fewer steps than were planned; None where it took all."""
        if self.step == self.steps:
            return None
        return f"{'no gain for so long' if self.stopped_early else 'finished early'}, at {self.at}"

    def promise(self) -> str:
        """What happens when a signal comes, in words."""
        doing = f"{self.unit} {min(self.step + 1, self.steps)} of {self.steps}"
        if self.log.shown.parts:
            doing = f"this batch ({self.log.shown.parts[-1].task}); {self.at} is kept"
        return f"stopping after {doing}; " + (
            self.unkept if self.folder is None else f"a checkpoint is kept in {self.folder}"
        )

    def _leave(self, signal: str) -> None:
        self.save()
        raise TrainingStopped.after(self.at, signal, self.folder)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, once for each step, from the first process.

        Raises:
            TrainingError: what would be kept is not finite, or it cannot be written.
        """
        try:
            self.check()
        except TrainingError as error:
            raise TrainingError(f"{error}{checkpoint.last_good(self.folder)}") from None
        if self.folder is None or self.saved == self.step:
            return
        self.saved = self.step
        if self.processes.first:
            checkpoint.write(self.folder, self.step, self.state(), self.tensors(), self.settings.keep)
        self.processes.wait()

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one.

        Raises:
            TrainingError: the run began with other settings, or no checkpoint can be read.
        """
        newest = None if self.folder is None else checkpoint.newest(self.folder)
        if newest is None:
            self.log.say("nothing to resume yet: starting at the beginning")
            return
        self.take_up(newest.step, newest.state)
        left = f"going on at {self.unit} {self.step + 1} of {self.steps}" if self.step < self.steps else "at its end"
        self.log.say(f"{left}, from the checkpoint in {self.folder}")
        self.saved = self.step
        self.load(newest.tensors)

    def take_up_finished(self, state: dict[str, Any]) -> None:
        """Take up a run that is finished from what it left beside its log; its modules are read by who calls.

        Raises:
            TrainingError: the run began with other settings.
        """
        self.take_up(int(state["step"]), state)
        self.log.say(f"this run is finished ({self.at}): it is told as it was, and nothing is trained")

    def take_up(self, step: int, state: dict[str, Any]) -> None:
        """Stand where a run stood after a step, but for its tensors.

        Raises:
            TrainingError: the run began with other settings.
        """
        compare(state.get("identity", {}), self.identity)
        self.step = self.resumed_from = step
        spent = state["seconds"]  # one number in the runs of version 0.1
        self.seconds, self.aside = spent if isinstance(spent, list) else (spent, 0.0)
        if self.source is not None:
            self.source.move_to(state["position"])
        for name, value in state.items():
            if name in self.remembered:
                setattr(self, name, value)
        self.log.resume(step, validated=not state.get("due"))

    def state(self) -> dict[str, Any]:
        """All that changes between steps but tensors, as plain data."""
        state = {"identity": self.identity, "position": self.position, "seconds": [self.seconds, self.aside]}
        return state | {name: getattr(self, name) for name in self.remembered}

    @property
    def position(self) -> Any:
        """Where the run stands in its data, as plain data."""
        return None if self.source is None else self.source.position


class ModuleRun(Run):
    """A run that changes plugged modules and nothing else of the base."""

    def __init__(
        self,
        base: Base,
        names: tuple[str, ...],
        settings: RunSettings,
        steps: int,
        log: RunLog,
        folder: Path | None,
        processes: Processes | None = None,
    ) -> None:
        super().__init__(settings, steps, log, folder, processes)
        self.base, self.names = base, names

    @property
    @abstractmethod
    def optimizers(self) -> Optimizers:
        """Each module's optimizers, by what a checkpoint calls them."""

    def check(self) -> None:
        """Refuse to keep modules that a step has made no numbers of."""
        check_numbers(self.base, self.names, self.at)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, buffers and moments, and torch's random state."""
        return {"rng.torch": torch.get_rng_state(), **kept_tensors(self.base, self.optimizers)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `tensors` gave."""
        put_back(self.base, self.optimizers, tensors)
        torch.set_rng_state(tensors["rng.torch"])
