"""The training loop: steps, validation, checkpoints, and the way back into an interrupted run."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from addenda.core.errors import TrainingError
from addenda.objectives.head import Head
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.writing import checkpoint
from addenda.writing.distributed import Processes
from addenda.writing.keeping import check_numbers, kept_tensors, part, put_back
from addenda.writing.plan import Plan
from addenda.writing.report import mean_of
from addenda.writing.run_log import RunLog
from addenda.writing.settings import compare
from addenda.writing.signals import TrainingStopped
from addenda.writing.step import Stepper, Sums
from addenda.writing.validation import Validation, told

if TYPE_CHECKING:
    from addenda.plug.base import Base


class Run:
    """A run from its first step, or from a checkpoint, to its end. All that changes between steps is saved with it."""

    def __init__(self, base: Base, plan: Plan, processes: Processes, log: RunLog, run: Path | None) -> None:
        self.base, self.plan, self.processes, self.log, self.folder = base, plan, processes, log, run
        device = base.device
        with base.off():
            head = Head(base.model, plan.settings.loss_chunk)
        self.validation = Validation(base, plan.validation, plan.settings, plan.length, head)
        self.stepper = Stepper(base, plan, head, processes, device)
        self.mixture = plan.mixture(base)
        self.identity = plan.identity(base, processes.size) if run is not None else {}
        self.step = 0
        self.resumed_from: int | None = None
        self.stopped_early = False
        self.due = False  # the validation of this step is still to be done
        self.validated = -1  # the step of the last one
        self.seconds = self.seconds_here = 0.0  # of all calls of a resumed run; of this one
        self.validating = 0.0  # seconds of this call that went into validation: not into training
        self.saved = -1
        self.recent = {name: Sums() for name in plan.names}  # since the last record in the log
        self.tail = {name: Sums() for name in plan.names}  # over the last tenth of the run
        self.changes: dict[str, dict[str, dict[str, Any]]] = {}
        # tensors by module and changes of the best validation, kept where patience may end the run
        self.best: dict[str, dict[str, Tensor]] = {}
        self.best_changes: dict[str, dict[str, dict[str, Any]]] = {}

    # -- going -------------------------------------------------------------------------------------------------

    def go(self, interrupts: Interrupts, *, finish: bool = False) -> None:
        """Train to the end, to an early stop, or to a signal; with `finish` take no further step.

        Raises:
            TrainingStopped: a signal came; the step it came in was finished and a checkpoint written.
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good one is kept.
        """
        try:
            if self.due or (finish and self.validation and self.validated != self.step):
                self._validate()
            self._steps(interrupts if not finish else None)
            self.save()
            self._settle()
        except Stopped as stopped:
            self._leave(stopped.signal)

    def _settle(self) -> None:
        """Make the modules what is kept of them: the best of them, or what a penalty shows; and what that leaves beside them."""
        if self.best:
            self.changes = self.best_changes
            for name, tensors in self.best.items():
                self.base.modules[name].load_tensors(tensors)
        else:
            self.stepper.guards.settle()
        for name in self.plan.names if self.stepper.guards else ():
            with self.log.shown.part(f"keeping what a later training of {name} needs"):
                self.stepper.guards.keep(name)

    def _steps(self, interrupts: Interrupts | None) -> None:
        shown = self.log.shown
        shown.begin(self.step)
        began, first, before, validating = time.perf_counter(), self.step, self.seconds, self.validating
        while interrupts is not None and self.step < self.plan.steps and not self.stopped_early:
            self._one(interrupts)
            elapsed = time.perf_counter() - began - (self.validating - validating)
            self.seconds, self.seconds_here = before + elapsed, elapsed
            speed = (self.step - first) * self.plan.tokens_per_step * len(self.plan.names) / elapsed
            loss = mean_of(sums.loss for sums in self.recent.values())
            shown.update(
                self.step, rate=f"{speed:,.0f} tokens/s", note="" if loss is None else f"training loss {loss:.3f}"
            )
            self._after(speed)
            stop = self.processes.any(interrupts.seen is not None, self.stepper.device)
            if stop and self.step < self.plan.steps and not self.stopped_early:
                self._leave(interrupts.seen or "a signal")

    def _one(self, interrupts: Interrupts) -> None:
        before = self.mixture.position
        try:
            passes = [self.mixture.take(self.plan.rows) for _ in range(self.plan.settings.accumulate)]
        except Stopped:
            self.mixture.move_to(before)
            raise
        try:
            with interrupts.held():
                by_module = self.stepper.take(self.step, passes)
        except TrainingError as error:
            raise TrainingError(f"{error}{checkpoint.last_good(self.folder)}") from None
        self.step += 1
        for name, sums in by_module.items():
            self.recent[name].add(sums)
            if self.step > self.plan.steps - max(1, self.plan.steps // 10):
                self.tail[name].add(sums)

    def _after(self, speed: float) -> None:
        """What is due after a step: the log, validation, a checkpoint."""
        last = self.step == self.plan.steps
        if last or self.step % self.plan.log_every == 0:
            self._log(speed)
        if self.validation and (last or self.step % self.plan.validate_every == 0):
            self.due = True  # until it is done: a checkpoint that is written meanwhile says so
            self._validate()
        if self.step % self.plan.checkpoint_every == 0:
            self.save()

    @property
    def losses(self) -> dict[str, float | None]:
        """Each module's mean loss on corpus rows over the last tenth of the run.

        Where that had none, since the last record of the log, or in the last record that had some; None: no token counted yet.
        """
        losses: dict[str, float | None] = {}
        for name in self.plan.names:
            logged = (record[name]["loss"] for record in reversed(self.log.history) if name in record)
            found = (loss for loss in (self.tail[name].loss, self.recent[name].loss, *logged) if loss is not None)
            losses[name] = next(found, None)
        return losses

    def _log(self, speed: float) -> None:
        record: dict[str, Any] = {"step": self.step, "tokens": self.step * self.plan.tokens_per_step}
        record |= {"tokens_per_second": round(speed, 1), "data": self.mixture.crc}
        for name, sums in self.recent.items():
            record[name] = sums.record() | {"lr": self.stepper.optimizers[name].param_groups[0]["lr"]}
        self.recent = {name: Sums() for name in self.plan.names}
        self.log.note(record)

    def _validate(self) -> None:
        began = time.perf_counter()
        with (
            self.stepper.guards.shown(),
            self.log.shown.part("validating", self.validation.size(len(self.plan.names))),
        ):
            self.changes = self.validation.run(list(self.plan.names))
        self.validating += time.perf_counter() - began
        self.due, self.validated = False, self.step
        self.log.note({"step": self.step, "validation": self.changes})
        for name, texts in self.changes.items():
            changes = ", ".join(told(on, change) for on, change in texts.items())
            self.log.say(f"step {self.step}, {name}, nats per token: {changes}")
        better, patience = self.validation.improved(self.changes), self.plan.settings.patience
        if patience is None:
            return
        if better:
            self.best_changes = self.changes
            with self.stepper.guards.shown():
                now = {name: self.base.modules[name].tensors() for name in self.plan.names}
                self.best = {name: {key: t.clone() for key, t in tensors.items()} for name, tensors in now.items()}
        self.stopped_early = self.validation.waited >= patience

    @property
    def at(self) -> str:
        """Where the run stands, in words."""
        return f"step {self.step} of {self.plan.steps}"

    @property
    def ended(self) -> str:
        """How a run ended that took fewer steps than were planned, for its card."""
        return f"{'no gain for so long' if self.stopped_early else 'finished early'}, at {self.at}"

    def promise(self) -> str:
        """What happens when a signal comes, in words."""
        doing = f"step {self.step + 1} of {self.plan.steps}"
        if self.log.shown.parts:
            doing = f"this batch ({self.log.shown.parts[-1].task}); step {self.step} of {self.plan.steps} is kept"
        kept = "nothing is on disk" if self.folder is None else f"a checkpoint is kept in {self.folder}"
        return f"stopping after {doing}; {kept}"

    def _leave(self, signal: str) -> None:
        self.save()
        raise TrainingStopped.after(self.at, signal, self.folder)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, once for each step, from the first process.

        Raises:
            TrainingError: the modules are not finite, or it cannot be written.
        """
        try:
            check_numbers(self.base, self.plan.names, self.at)
        except TrainingError as error:
            raise TrainingError(f"{error}{checkpoint.last_good(self.folder)}") from None
        if self.folder is None or self.saved == self.step:
            return
        self.saved = self.step
        if self.processes.first:
            checkpoint.write(self.folder, self.step, self.state(), self._tensors(), self.plan.settings.keep)
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
        self._take_up(newest.step, newest.state)
        left = f"going on at step {self.step + 1} of {self.plan.steps}" if self.step < self.plan.steps else "at its end"
        self.log.say(f"{left}, from the checkpoint in {self.folder}")
        self.saved = self.step
        self._load(newest.tensors)

    def take_up_finished(self, state: dict[str, Any]) -> None:
        """Take up a run that is finished from what it left beside its log; its modules are read by who calls.

        Raises:
            TrainingError: the run began with other settings.
        """
        self._take_up(int(state["step"]), state)
        self.log.say(f"this run is finished ({self.at}): it is told as it was, and nothing is trained")

    def _take_up(self, step: int, state: dict[str, Any]) -> None:
        compare(state["identity"], self.identity)
        self.step = self.resumed_from = step
        self.due, self.validated = state["due"], state["validated"]
        self.mixture.move_to(state["position"])
        self.validation.best, self.validation.waited = state["best"], state["waited"]
        self.stopped_early, self.seconds, self.changes = state["stopped_early"], state["seconds"], state["changes"]
        self.best_changes = state["best_changes"]
        self.recent = {name: Sums(**state["recent"][name]) for name in self.plan.names}
        self.tail = {name: Sums(**state["tail"][name]) for name in self.plan.names}
        self.log.resume(step, validated=not self.due)

    def state(self) -> dict[str, Any]:
        """All that changes between steps but tensors, as plain data."""
        return {
            "identity": self.identity,
            "position": self.mixture.position,
            "due": self.due,
            "validated": self.validated,
            "best": self.validation.best,
            "waited": self.validation.waited,
            "stopped_early": self.stopped_early,
            "seconds": self.seconds,
            "changes": self.changes,
            "best_changes": self.best_changes,
            "recent": {name: asdict(sums) for name, sums in self.recent.items()},
            "tail": {name: asdict(sums) for name, sums in self.tail.items()},
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors = kept_tensors(self.base, self.plan.names, self.stepper.optimizers) | self.stepper.guards.tensors()
        for number, name in enumerate(self.plan.names):
            tensors |= {f"moments.{number}.{key}": t for key, t in self.stepper.moments[name].state().items()}
            tensors |= {f"best.{number}.{key}": tensor for key, tensor in self.best.get(name, {}).items()}
        return tensors

    def _load(self, tensors: dict[str, Tensor]) -> None:
        put_back(self.base, self.plan.names, self.stepper.optimizers, tensors)
        self.stepper.guards.load(tensors)
        for number, name in enumerate(self.plan.names):
            self.stepper.moments[name].load(part(tensors, f"moments.{number}."))
            best = part(tensors, f"best.{number}.")
            if best:
                self.best[name] = {key: tensor.to(self.stepper.device) for key, tensor in best.items()}
