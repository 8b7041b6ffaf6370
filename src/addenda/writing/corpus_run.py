"""The run of `train`: rows of a corpus and of replay, steps of an optimizer, validation along the way, the best kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from addenda.objectives.head import Head
from addenda.text.texts import Texts
from addenda.writing.batches import Item
from addenda.writing.distributed import Processes
from addenda.writing.keeping import Optimizers, part
from addenda.writing.lessons import ANSWERS, Lessons
from addenda.writing.loop import ModuleRun
from addenda.writing.plan import CORPUS, Plan
from addenda.writing.report import mean_of
from addenda.writing.rounds import Rounds
from addenda.writing.run_log import RunLog
from addenda.writing.step import Stepper, Sums
from addenda.writing.validation import Validation, told

if TYPE_CHECKING:
    from addenda.plug.base import Base


class CorpusRun(ModuleRun):
    """Steps over a corpus in epochs, for one or several modules."""

    remembered = (*ModuleRun.remembered, "due", "validated", "stopped_early", "changes", "best_changes", "round")

    def __init__(self, base: Base, plan: Plan, log: RunLog, folder: Path | None, processes: Processes) -> None:
        super().__init__(base, plan.names, plan.settings, plan.steps, log, folder, processes)
        self.plan = plan
        with base.off():
            head = Head(base.model, plan.settings.loss_chunk)
        self.validation = Validation(base, plan.validation, plan.settings, plan.length, head)
        self.lessons = Lessons(base, plan, head, folder, processes) if plan.studied else None
        self.stepper = Stepper(base, plan, head, processes, base.device, self.lessons)
        self.source = self.mixture = plan.mixture(base)
        self.identity = plan.identity(base, processes.size) if folder is not None else {}
        self.round = -1  # the round that the mixture reads of; -1 before the first
        self.rounds: Rounds | None = None
        if plan.objective.answering is not None and self.lessons is not None:
            answers = self.lessons.work / ANSWERS
            self.rounds = Rounds(base, plan.objective.answering, answers, steps=plan.steps, seed=plan.seed)
        self.due = False  # the validation of this step is still to be done
        self.validated = -1  # the step of the last one
        self.recent = {name: Sums() for name in plan.names}  # since the last record in the log
        self.tail = {name: Sums() for name in plan.names}  # over the last tenth of the run
        self.changes: dict[str, dict[str, dict[str, Any]]] = {}
        # tensors by module and changes of the best validation, kept where patience may end the run
        self.best: dict[str, dict[str, Tensor]] = {}
        self.best_changes: dict[str, dict[str, dict[str, Any]]] = {}

    # -- steps -------------------------------------------------------------------------------------------------

    def take(self) -> list[list[Item]]:
        """The rows of each pass of the next step."""
        return [self.mixture.take(self.plan.rows) for _ in range(self.plan.settings.accumulate)]

    def write(self, rows: list[list[Item]]) -> int:
        """One step of each module's optimizer."""
        for name, sums in self.stepper.take(self.step, rows).items():
            self.recent[name].add(sums)
            if self.step + 1 > self.steps - max(1, self.steps // 10):
                self.tail[name].add(sums)
        return self.plan.tokens_per_step * len(self.names)

    def told(self) -> str:
        """The loss, beside the bar."""
        loss = mean_of(sums.loss for sums in self.recent.values())
        return "" if loss is None else f"training loss {loss:.3f}"

    @property
    def losses(self) -> dict[str, float | None]:
        """Each module's mean loss on corpus rows over the last tenth of the run.

        Where that had none, since the last record of the log, or in the last record that had some; None: no token counted yet.
        """
        losses: dict[str, float | None] = {}
        for name in self.names:
            logged = (record[name]["loss"] for record in reversed(self.log.history) if name in record)
            found = (loss for loss in (self.tail[name].loss, self.recent[name].loss, *logged) if loss is not None)
            losses[name] = next(found, None)
        return losses

    def record(self, speed: float) -> dict[str, Any]:
        """Means since the last record."""
        record: dict[str, Any] = {"tokens": self.step * self.plan.tokens_per_step}
        record |= {"tokens_per_second": round(speed, 1), "data": self.mixture.crc}
        for name, sums in self.recent.items():
            record[name] = sums.record() | {"lr": self.stepper.optimizers[name].param_groups[0]["lr"]}
        self.recent = {name: Sums() for name in self.names}
        return record

    # -- teachers ----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Begin a round, where one begins."""
        if self.rounds is not None and self.rounds.at(self.step) > self.round:
            self._turn(self.rounds, self.rounds.at(self.step))

    def _turn(self, rounds: Rounds, number: int) -> None:
        """Begin a round: the modules answer, their teachers read what they answered, and that is what is read from now on."""
        assert self.lessons is not None
        if rounds.answered(number):
            self.save()  # answers are drawn from the modules as they are kept here
            rows = rounds.length(number) * self.plan.settings.accumulate * self.plan.rows
            need = round(rows * self.plan.length * (1 - self.plan.replay_share))
            for name in self.names if self.processes.first else ():
                tokens = self.lessons.survey(name).tokens
                rounds.answer(name, self.stepper.weights[name], self.plan.corpora[name], number, tokens, need)
            self.processes.wait()
            sources = {name: rounds.source(name, number) for name in self.names}
            for name, source in sources.items():
                self.lessons.read(name, source)
            self.lessons.make()
            self._read(sources)
        self.round = number

    def _read(self, sources: Mapping[str, Texts]) -> None:
        """Take the rows of the modules' corpora from other texts from now on."""
        for name, source in sources.items():
            self.mixture.read(name, self.plan.stream(self.base, source, CORPUS))

    def _teach(self) -> None:
        """Let the teachers read what the rows to come are of."""
        if self.lessons is None or self.step == self.steps:
            return
        if self.rounds is not None:
            if self.resumed_from is None:
                self.rounds.clear()
            if self.rounds.answered(max(0, self.round)):
                if self.round < 0:
                    return  # they answer before the first step
                for name in self.names:
                    self.lessons.read(name, self.rounds.source(name, self.round))
        self.lessons.make()

    def release(self) -> None:
        """Remove what is kept for this call alone."""
        if self.lessons is not None:
            self.lessons.close()

    def clear(self) -> int:
        """Remove what the teachers said, from the run's own folder."""
        return 0 if self.lessons is None else self.lessons.clear()

    # -- validation --------------------------------------------------------------------------------------------

    def begin(self, finish: bool) -> None:
        """What teachers have to read; a validation that was due when the run was interrupted, or that its end asks for."""
        if not finish:
            self._teach()
        if self.due or (finish and self.validation and self.validated != self.step):
            self._validate()

    def measure(self) -> None:
        """Validate, where that is due."""
        if self.validation and (self.step == self.steps or self.step % self.plan.validate_every == 0):
            self.due = True  # until it is done: a checkpoint that is written meanwhile says so
            self._validate()

    def _validate(self) -> None:
        began = time.perf_counter()
        with (
            self.stepper.guards.shown(),
            self.log.shown.part("validating", self.validation.size(len(self.names))),
        ):
            self.changes = self.validation.run(list(self.names))
        self.aside += time.perf_counter() - began
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
                now = {name: self.base.modules[name].tensors() for name in self.names}
                self.best = {name: {key: t.clone() for key, t in tensors.items()} for name, tensors in now.items()}
        self.stopped_early = self.validation.waited >= patience

    def end(self) -> None:
        """Make the modules what is kept of them: the best of them, or what a penalty shows; and what that leaves beside them."""
        if self.best:
            self.changes = self.best_changes
            for name, tensors in self.best.items():
                self.base.modules[name].load_tensors(tensors)
        else:
            self.stepper.guards.settle()
        for name in self.names if self.stepper.guards else ():
            with self.log.shown.part(f"keeping what a later training of {name} needs"):
                self.stepper.guards.keep(name)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def take_up(self, step: int, state: dict[str, Any]) -> None:
        """Stand where a run stood after a step."""
        number = state.get("round", -1)
        if self.rounds is not None and number >= 0 and self.rounds.answered(number):
            held = (name for name in self.names if self.rounds.file(name, number).is_file())
            self._read({name: self.rounds.source(name, number) for name in held})
        super().take_up(step, state)
        self.validation.best, self.validation.waited = state["best"], state["waited"]
        self.recent = {name: Sums(**state["recent"][name]) for name in self.names}
        self.tail = {name: Sums(**state["tail"][name]) for name in self.names}

    def state(self) -> dict[str, Any]:
        """All that changes between steps but tensors, as plain data."""
        return super().state() | {
            "best": self.validation.best,
            "waited": self.validation.waited,
            "recent": {name: asdict(sums) for name, sums in self.recent.items()},
            "tail": {name: asdict(sums) for name, sums in self.tail.items()},
        }

    @property
    def optimizers(self) -> Optimizers:
        """One for each module."""
        return {name: {"optimizer": optimizer} for name, optimizer in self.stepper.optimizers.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Also second moments, what penalties keep, and the best modules so far."""
        tensors = super().tensors() | self.stepper.guards.tensors()
        for number, name in enumerate(self.names):
            tensors |= {f"moments.{number}.{key}": t for key, t in self.stepper.moments[name].state().items()}
            tensors |= {f"best.{number}.{key}": tensor for key, tensor in self.best.get(name, {}).items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `tensors` gave."""
        super().load(tensors)
        self.stepper.guards.load(tensors)
        for number, name in enumerate(self.names):
            self.stepper.moments[name].load(part(tensors, f"moments.{number}."))
            best = part(tensors, f"best.{number}.")
            if best:
                self.best[name] = {key: tensor.to(self.stepper.device) for key, tensor in best.items()}
