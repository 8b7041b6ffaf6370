"""The run of a forgetter: gradients of both texts, its steps, checkpoints, and the way back into an interrupted run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addenda.core.errors import TrainingError
from addenda.core.registry import asked_for, recorded
from addenda.forgetters.forgetter import Gradients
from addenda.modulefile.storage import digest_of
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from addenda.optimizers.optimizer import load_optimizer_tensors, optimizer_tensors, rate
from addenda.plug.scoring import cast
from addenda.removing.plan import Plan
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.writing import checkpoint
from addenda.writing.batches import Batch, Item, stack
from addenda.writing.keeping import check_numbers, part
from addenda.writing.packing import Feed, Row
from addenda.writing.run_log import RunLog
from addenda.writing.settings import compare
from addenda.writing.signals import TrainingStopped

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: what forgetting a row costs, from its loss and the bare base's, both [B]
Cost = Callable[[Tensor, Tensor], Tensor]


class Run:
    """A run from its first step, or from a checkpoint, to its end. All that changes between steps is saved with it."""

    def __init__(self, base: Base, plan: Plan, log: RunLog, folder: Path | None) -> None:
        self.base, self.plan, self.log, self.folder = base, plan, log, folder
        self.module, self.name = plan.module, plan.module.name
        self.before = {name: tensor.detach().clone() for name, tensor in self.module.tensors().items()}
        with base.off():
            self.head = Head(base.model)
        self.lm = asked_for(Objective, "lm")
        adapters = {id(p) for p in self.module.adapters.parameters()}
        named = {k.removeprefix("adapters.").replace("/", "."): p for k, p in self.module.named_parameters()}
        self.parameters: dict[str, nn.Parameter] = {
            name: p for name, p in named.items() if id(p) in adapters and p.requires_grad
        }
        self.method = recorded(plan.method)
        self.rule = plan.method.over(self.module, self.parameters, plan.lr)
        self.feeds = plan.feeds(base)
        self.identity = plan.identity(base, digest_of(self.module)) if folder is not None else {}
        self.step, self.saved = 0, -1
        self.resumed_from: int | None = None
        self.seconds = 0.0
        #: what was measured at the end, as plain data
        self.found: dict[str, Any] | None = None

    # -- going -------------------------------------------------------------------------------------------------

    def go(self, interrupts: Interrupts) -> None:
        """Step to the end, or to a signal.

        Raises:
            TrainingStopped: a signal came; the step it came in was finished and a checkpoint written.
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good one is kept.
        """
        shown, began, before = self.log.shown, time.perf_counter(), self.seconds
        shown.begin(self.step)
        while self.step < self.plan.steps:
            try:
                self._one(interrupts)
            except Stopped as stopped:
                self.leave(stopped.signal)
            self.seconds = before + time.perf_counter() - began
            if self.step % self.plan.checkpoint_every == 0:
                self.save()
            if interrupts.seen is not None and self.step < self.plan.steps:
                self.leave(interrupts.seen)
        self.save()

    def _one(self, interrupts: Interrupts) -> None:
        before = self._position()
        try:
            rows = {"forget": [self._take("forget")], "retain": []}
            rows["retain"] = [self._take("retain") for _ in range(self.plan.method.batches)]
        except Stopped:
            self._move_to(before)
            raise
        with interrupts.held():
            forget, losses = self.graded(rows["forget"][0], self.plan.method.cost)
            retain = [self.graded(batch) for batch in rows["retain"]]
            kept = sum(loss for _, loss in retain) / len(retain)
            self._check(losses + kept, [forget, *(gradients for gradients, _ in retain)])
            self._move(forget, [gradients for gradients, _ in retain])
        self.step += 1
        self.log.shown.update(self.step, note=f"loss {losses:.3f} on what is to go, {kept:.3f} on what is to stay")
        if self.step % max(1, self.plan.steps // 100) == 0:
            self.log.note({"step": self.step, "forget": losses, "retain": kept})

    def _take(self, side: str) -> list[Row]:
        return [self.feeds[side].take() for _ in range(self.plan.rows)]

    def graded(self, rows: list[Row], cost: Cost | None = None) -> tuple[Gradients, float]:
        """Gradients of the mean loss of some rows, or of the mean of what forgetting them costs; and their mean loss."""
        batch = stack([Item(row, self.name, False) for row in rows], self.base.device, dtype=self.base.host.dtype())
        weights = batch.target_weights / batch.target_weights.sum(1, keepdim=True).clamp_min(1.0)
        with cast(self.base.device, self.plan.settings.precision):
            with self.base.using({self.name: 1.0}), self.base.watching(documents=batch.seen_documents):
                hidden = self.head.hidden(**batch.student()).flatten(0, 1)
            slopes = torch.ones(len(rows), device=weights.device)
            losses = None if cost is None else self._losses(hidden.detach(), batch, weights)
            if cost is not None and losses is not None:
                slopes = _slopes(cost, losses, self._bare(batch, weights))
            asked = (weights * slopes[:, None] / len(rows)).flatten()
            total, costs = self.head.costs(self.lm, hidden, batch.targets.flatten(), asked)
        if total.requires_grad and bool(slopes.any()):  # not where every gate is shut, or nothing is left to forget
            total.backward()
        if losses is None:
            losses = (costs.view(weights.shape) * weights).sum(1)
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.parameters.items()}
        for parameter in self.module.parameters():
            parameter.grad = None
        return gradients, float(losses.mean())

    @torch.no_grad()
    def _losses(self, hidden: Tensor, batch: Batch, weights: Tensor) -> Tensor:
        """Nats per token of each row [B]."""
        _, costs = self.head.costs(self.lm, hidden, batch.targets.flatten(), weights.flatten())
        return (costs.view(weights.shape) * weights).sum(1)

    @torch.no_grad()
    def _bare(self, batch: Batch, weights: Tensor) -> Tensor:
        with self.base.off():
            return self._losses(self.head.hidden(**batch.student()).flatten(0, 1), batch, weights)

    def _move(self, forget: Gradients, retain: list[Gradients]) -> None:
        settings = self.plan.settings
        share = rate(self.step, self.plan.steps, settings.warmup, settings.floor)
        for optimizer in self.rule.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group.get("share", 1.0) * self.plan.lr * share
        self.rule.step(forget, retain)
        with torch.no_grad():
            self.plan.module.constrain()  # a projected step is set by hand

    def _check(self, loss: float, gradients: list[Gradients]) -> None:
        sound = all(bool(g.isfinite().all()) for each in gradients for g in each.values())
        if not math.isfinite(loss) or not sound:
            raise TrainingError(
                f"the loss of '{self.name}' or its gradient is not finite at step {self.step + 1}; a smaller lr (now "
                f"{self.plan.lr:g}) or precision='fp32' may help{checkpoint.last_good(self.folder)}"
            )

    @property
    def at(self) -> str:
        """Where the run stands, in words."""
        return f"step {self.step} of {self.plan.steps}"

    def promise(self) -> str:
        """What happens when a signal comes, in words."""
        kept = "the module stays as it was" if self.folder is None else f"a checkpoint is kept in {self.folder}"
        return f"stopping after step {min(self.step + 1, self.plan.steps)} of {self.plan.steps}; {kept}"

    def leave(self, signal: str) -> None:
        """End the run here, with a checkpoint.

        Raises:
            TrainingStopped: always.
        """
        self.save()
        raise TrainingStopped.after(self.at, signal, self.folder)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, once for each step."""
        if self.folder is not None and self.saved != self.step:
            self.saved = self.step
            check_numbers(self.base, [self.name], f"step {self.step}")
            checkpoint.write(self.folder, self.step, self.state(), self._tensors(), self.plan.settings.keep)

    def state(self) -> dict[str, Any]:
        """All that changes between steps but tensors, as plain data."""
        state = {"identity": self.identity, "position": self._position(), "seconds": self.seconds}
        return state | {"found": self.found}

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one.

        Raises:
            TrainingError: the run began with other settings, or no checkpoint can be read.
        """
        newest = None if self.folder is None else checkpoint.newest(self.folder)
        if newest is None:
            self.log.say("nothing to resume yet: starting at the beginning")
            return
        self.take_up_finished(newest.state)
        self.saved = self.step
        self.module.load_tensors(part(newest.tensors, "value."))
        for label, optimizer in self.rule.optimizers.items():
            load_optimizer_tensors(optimizer, part(newest.tensors, f"{label}."), self._by_parameter)
        torch.set_rng_state(newest.tensors["rng.torch"])

    def take_up_finished(self, state: dict[str, Any]) -> None:
        """Take up what a run left, but for its tensors.

        Raises:
            TrainingError: the run began with other settings.
        """
        compare(state["identity"], self.identity)
        self.step = self.resumed_from = int(state["step"])
        self.seconds, self.found = state["seconds"], state["found"]
        self._move_to(state["position"])
        self.log.resume(self.step)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that changes between steps: parameters, what each optimizer keeps, torch's random state."""
        tensors = {"rng.torch": torch.get_rng_state()}
        tensors |= {f"value.{name}": tensor for name, tensor in self.module.tensors().items()}
        for label, optimizer in self.rule.optimizers.items():
            moments = optimizer_tensors(optimizer, self._by_parameter)
            tensors |= {f"{label}.{key}": tensor for key, tensor in moments.items()}
        return tensors

    @property
    def _by_parameter(self) -> dict[nn.Parameter, str]:
        return {parameter: name for name, parameter in self.parameters.items()}

    def _position(self) -> dict[str, Any]:
        return {side: feed.position for side, feed in self.feeds.items()}

    def _move_to(self, position: Mapping[str, Any]) -> None:
        self.feeds = {side: Feed(feed.stream, *position[side]) for side, feed in self.feeds.items()}


def _slopes(cost: Cost, losses: Tensor, bare: Tensor) -> Tensor:
    """How a change of each row's loss [B] changes what forgetting it costs."""
    with torch.enable_grad():
        leaf = losses.detach().float().requires_grad_()
        (slopes,) = torch.autograd.grad(cost(leaf, bare.float()).sum(), leaf)
    return slopes
