"""The run of a forgetter: gradients of both texts, its steps, and what is measured at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.errors import TrainingError
from addenda.core.registry import asked_for, recorded
from addenda.forgetters.forgetter import Gradients
from addenda.modulefile.storage import digest_of
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from addenda.optimizers.optimizer import rate
from addenda.plug.scoring import cast
from addenda.removing.looking import look
from addenda.removing.plan import Plan, side_owners
from addenda.writing.batches import Batch, Item, stack
from addenda.writing.keeping import Optimizers
from addenda.writing.loop import ModuleRun
from addenda.writing.packing import Row
from addenda.writing.probe import probe_of
from addenda.writing.run_log import RunLog

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: rows tried for a probe on which the module shows itself
PROBE_ROWS = 8
#: what forgetting a row costs, from its loss and the bare base's, both [B]
Cost = Callable[[Tensor, Tensor], Tensor]


class ForgetRun(ModuleRun):
    """Steps of a forgetter over both texts."""

    unkept = "the module stays as it was"
    remembered = (*ModuleRun.remembered, "found")

    def __init__(self, base: Base, plan: Plan, log: RunLog, folder: Path | None, before: Mapping[str, Tensor]) -> None:
        super().__init__(base, (plan.module.name,), plan.settings, plan.steps, log, folder)
        self.plan, self.module, self.name, self.before = plan, plan.module, plan.module.name, before
        with base.off():
            self.head = Head(base.model)
        self.lm = asked_for(Objective, "lm")
        adapters = {id(p) for p in self.module.adapters.parameters()}
        self.parameters = {name: p for name, p in self.module.learning().items() if id(p) in adapters}
        self.method = recorded(plan.method)
        self.rule = plan.method.over(self.module, self.parameters, plan.lr)
        self.source = self.mixture = plan.mixture(base)
        self.identity = plan.identity(base, digest_of(self.module)) if folder is not None else {}
        self.last = (0.0, 0.0)  # nats per token of the last step's rows: what is to go, what is to stay
        #: what was measured at the end, as plain data
        self.found: dict[str, Any] | None = None

    # -- steps -------------------------------------------------------------------------------------------------

    def take(self) -> dict[str, list[list[Row]]]:
        """A batch of the forget text, and those of the retain text."""
        return {
            "forget": [self._take("forget")],
            "retain": [self._take("retain") for _ in range(self.plan.method.batches)],
        }

    def write(self, rows: dict[str, list[list[Row]]]) -> int:
        """One step of the rule."""
        forget, losses = self.graded(rows["forget"][0], self.plan.method.cost)
        retain = [self.graded(batch) for batch in rows["retain"]]
        kept = sum(loss for _, loss in retain) / len(retain)
        self._check(losses + kept, [forget, *(gradients for gradients, _ in retain)])
        self._move(forget, [gradients for gradients, _ in retain])
        self.last = (losses, kept)
        return self.plan.tokens_per_step

    def told(self) -> str:
        """Both losses, beside the bar."""
        return f"loss {self.last[0]:.3f} on what is to go, {self.last[1]:.3f} on what is to stay"

    def record(self, speed: float) -> dict[str, Any]:
        """Both losses of the last step."""
        return {"forget": self.last[0], "retain": self.last[1]}

    def end(self) -> None:
        """Measure what is gone and what is kept; side tensors told of the module as it was, and go."""
        plan, module = self.plan, self.module
        with self.log.shown.part("measuring", 2 * plan.settings.measured):
            gone, kept = (
                look(
                    self.base, module, self.before, source, tokens=plan.settings.measured, length=plan.length
                ).as_dict()
                for source in (plan.forget, plan.retain)
            )
            # a probe that was kept may be of the very text that is gone
            feed = plan.mixture(self.base).corpora["retain"]
            rows = (feed.take().ids for _ in range(PROBE_ROWS))
            module.probe = None if module.probe is None else probe_of(self.base, self.name, rows)
        groups, dropped = plan.method.remaining(module), side_owners(module)
        self.found, module.side = {"forget": gone, "retain": kept, "groups": groups, "dropped": dropped}, {}

    def _take(self, side: str) -> list[Row]:
        return [self.mixture.corpora[side].take() for _ in range(self.plan.rows)]

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
                f"{self.plan.lr:g}) or precision='fp32' may help"
            )

    # -- checkpoints -------------------------------------------------------------------------------------------

    @property
    def optimizers(self) -> Optimizers:
        """Those of the rule."""
        return {self.name: {f"optimizer-{label}": one for label, one in self.rule.optimizers.items()}}


def _slopes(cost: Cost, losses: Tensor, bare: Tensor) -> Tensor:
    """How a change of each row's loss [B] changes what forgetting it costs."""
    with torch.enable_grad():
        leaf = losses.detach().float().requires_grad_()
        (slopes,) = torch.autograd.grad(cost(leaf, bare.float()).sum(), leaf)
    return slopes
