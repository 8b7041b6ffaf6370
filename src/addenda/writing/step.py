"""One training step: passes over rows, losses and penalties, gradients, and each module's own update."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addenda.core.call import Collector
from addenda.core.errors import TrainingError
from addenda.core.registry import asked_for
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective, Taught, likelihood
from addenda.optimizers.optimizer import OptimizerMethod, rate
from addenda.penalties.gate import gate_penalty
from addenda.penalties.local import local_penalty
from addenda.penalties.penalty import Pass
from addenda.plug.scoring import cast
from addenda.writing.batches import Batch, Item, stack
from addenda.writing.distributed import Processes
from addenda.writing.guards import Guards
from addenda.writing.isolation import Way, way_of
from addenda.writing.lessons import Lessons
from addenda.writing.moments import SecondMoments
from addenda.writing.packing import Row
from addenda.writing.plan import Plan

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass
class Sums:
    """Nats and counted tokens of one module's corpus and replay rows, and its penalties, over some steps."""

    corpus: float = 0.0
    corpus_tokens: float = 0.0
    replay: float = 0.0
    replay_tokens: float = 0.0
    local: float = 0.0
    gate: float = 0.0
    penalty: float = 0.0
    norm: float = 0.0
    steps: int = 0

    def add(self, other: Sums) -> None:
        """Add another's numbers to these."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def record(self) -> dict[str, float | None]:
        """Means, for the log."""
        steps = max(1, self.steps)
        means = {"loss": self.loss, "local": self.local / steps, "gate": self.gate / steps, "norm": self.norm / steps}
        if self.penalty:
            means["penalty"] = self.penalty / steps
        if self.replay_tokens:
            means["replay_loss"] = self.replay / self.replay_tokens
        return means

    @property
    def loss(self) -> float | None:
        """Mean nats per corpus token; None where there was none."""
        return self.corpus / self.corpus_tokens if self.corpus_tokens else None


@dataclass
class Totals:
    """What a whole step counts for one module, over all passes and processes: the divisors of its losses."""

    loss: float = 0.0
    replay: float = 0.0
    subject: float = 0.0


@dataclass
class Stepper:
    """Takes steps: one optimizer for each module, all fed by one pass over their rows."""

    base: Base
    plan: Plan
    head: Head
    processes: Processes
    device: torch.device
    lessons: Lessons | None = None
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    moments: dict[str, SecondMoments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.plan.names:
            self.moments[name] = SecondMoments(self.base.modules[name].learning())
            gate, settings = self.base.modules[name].gate, self.plan.settings
            self.optimizers[name] = asked_for(OptimizerMethod, settings.optimizer).make(
                self.parameters(name),
                lr=self.plan.lr[name],
                weight_decay=settings.weight_decay,
                slower=() if gate is None else gate.parameters(),
                share=settings.gate_lr,
            )
        self.guards = Guards(self.base, self.plan, self.row_gradient)
        self.weights = {name: {name: 1.0, **self.plan.alongside} for name in self.plan.names}
        self.dtype: torch.dtype = self.base.host.dtype()
        self.isolate: Way | None = way_of(self.base) if self.plan.settings.isolate else None

    def parameters(self, name: str) -> list[nn.Parameter]:
        """A module's parameters that learn."""
        return [p for p in self.base.modules[name].parameters() if p.requires_grad]

    def take(self, step: int, passes: list[list[Item]]) -> dict[str, Sums]:
        """Step number `step` over the rows of each pass.

        Raises:
            TrainingError: a loss or a gradient is not finite; parameters are then as they were before the step.
        """
        totals = self._totals(passes)
        stats = self._stats()
        if self.guards.streams:
            self._by_stream(passes, totals, stats)
        else:
            self._passes(passes, totals, stats)
        by_module = {
            name: Sums(*row, steps=1)
            for name, row in zip(self.plan.names, self.processes.sum(stats).tolist(), strict=True)
        }
        for name in self.plan.names:
            by_module[name].norm = self._norm(name)
        self._check(step, by_module)
        for name in self.plan.names:
            self._update(name, step)
        return by_module

    def rehearse(self, items: list[Item]) -> None:
        """Go through one pass over some rows, and forget it: to see what it takes."""
        self._pass(self._stacked(items), self._totals([items]), self._stats())
        for name in self.plan.names:
            self.optimizers[name].zero_grad(set_to_none=True)

    def row_gradient(self, name: str, row: Row) -> dict[str, Tensor]:
        """The gradient of a row's mean cost for a module, without penalties, by the parameters' names.

        Where teachers read records it is that of the row's likelihood: of rows of other texts they said nothing.
        """
        batch = self._stacked([Item(replace(row, taught=None), name, False)])
        with cast(self.device, self.plan.settings.precision):
            loss, _ = self._cost(batch, batch.target_weights / batch.target_weights.sum().clamp(min=1.0), None)
        own = self.base.modules[name].learning()
        if not loss.requires_grad:  # where every gate is shut
            return {key: torch.zeros_like(p) for key, p in own.items()}
        gradients = torch.autograd.grad(loss, list(own.values()), allow_unused=True, materialize_grads=True)
        return {key: gradient.contiguous() for key, gradient in zip(own, gradients, strict=True)}

    def _stats(self) -> Tensor:
        return torch.zeros(len(self.plan.names), 7, dtype=torch.float64, device=self.device)

    def _stacked(self, items: list[Item]) -> Batch:
        return stack(items, self.device, context=self.plan.context, dtype=self.dtype, isolate=self.isolate)

    def _passes(self, passes: list[list[Item]], totals: dict[str, Totals], stats: Tensor) -> None:
        """The gradients of all passes, over all processes."""
        for items in passes:
            mine = [item for number, item in enumerate(items) if number % self.processes.size == self.processes.rank]
            if mine:
                self._pass(self._stacked(mine), totals, stats)
        self.processes.add_gradients([p for name in self.plan.names for p in self.parameters(name)])

    def _by_stream(self, passes: list[list[Item]], totals: dict[str, Totals], stats: Tensor) -> None:
        """The same, the gradients of corpus and replay taken apart, and joined once penalties have seen them."""
        apart: dict[str, dict[str, dict[str, Tensor]]] = {name: {} for name in self.plan.names}
        for stream, replay in (("corpus", False), ("replay", True)):
            self._passes([[item for item in items if item.replay == replay] for items in passes], totals, stats)
            for name, streams in apart.items():
                own = self.base.modules[name].learning()
                streams[stream] = {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in own.items()}
                self.optimizers[name].zero_grad(set_to_none=True)
        for name, streams in apart.items():
            self.guards.before_step(name, streams)
            for key, parameter in self.base.modules[name].learning().items():
                parameter.grad = streams["corpus"][key] + streams["replay"][key]

    def _totals(self, passes: list[list[Item]]) -> dict[str, Totals]:
        totals = {name: Totals() for name in self.plan.names}
        for items in passes:
            for item in items:
                totals[item.owner].loss += float(item.row.weights[self.plan.context + 1 :].sum())
                totals[item.owner].replay += (self.plan.length - 1) * item.replay
                totals[item.owner].subject += (self.plan.length - 1) * (not item.replay)
        return totals

    def _pass(self, batch: Batch, totals: dict[str, Totals], stats: Tensor) -> None:
        settings = self.plan.settings
        scale = torch.tensor([1.0 / max(1.0, totals[owner].loss) for owner in batch.owners], device=self.device)
        weights = batch.target_weights * scale[:, None]
        collector = self._collector(batch)
        with cast(self.device, settings.precision):
            loss, costs = self._cost(batch, weights, collector)
            paid = self._guarded(batch, totals, stats) if self.guards else None
        loss = loss if paid is None else loss + paid
        loss = loss + self._penalties(batch, collector, totals, stats)
        if loss.requires_grad:  # not where every gate is shut: then nothing learns from this pass
            loss.backward()
        self._count(batch, costs.view(weights.shape), stats)

    def _cost(self, batch: Batch, weights: Tensor, collector: Collector | None) -> tuple[Tensor, Tensor]:
        """The weighted sum of the tokens' costs, and each token's."""
        asked = self._asked(batch)
        with self._selected(batch), self.base.watching(collector=collector, documents=batch.seen_documents):
            hidden = self.head.hidden(**batch.student()).flatten(0, 1)
        targets, found = batch.targets.flatten(), list[tuple[Tensor, Tensor]]()
        for rows, objective, taught in asked:
            mine = weights if rows is None else weights * rows[:, None]
            found.append(self.head.costs(objective, hidden, targets, mine.flatten(), taught))
        total, costs = found[0]
        for more, each in found[1:]:
            total, costs = total + more, costs + each
        return total, costs

    def _asked(self, batch: Batch) -> list[tuple[Tensor | None, Objective, Taught]]:
        """What each row costs: which rows [B] (None: all of them), by which objective, and what its teacher says of all."""
        plan = self.plan
        if plan.replay_objective is None and not plan.studied:
            return [(None, plan.objective, self._teach(batch))]
        asked: list[tuple[Tensor | None, Objective, Taught]] = []
        again, others = batch.replay.nonzero().flatten().tolist(), ~batch.replay
        if bool(others.any()):
            if not plan.studied:
                asked.append((others, plan.objective, self._teach(batch)))
            elif batch.taught is None or self.lessons is None:  # a text that no teacher was to read
                asked.append((others, likelihood(), ()))
            else:
                asked.append((others, plan.objective, self.lessons.taught(batch)))
        if again:
            replayed = plan.replay_objective or plan.objective
            asked.append((batch.replay, replayed, self._bare(batch, replayed, again) if replayed.taught else ()))
        return asked

    def _guarded(self, batch: Batch, totals: dict[str, Totals], stats: Tensor) -> Tensor:
        """What the modules pay for a pass to the penalties of the run."""
        loss = torch.zeros((), device=self.device)
        per_row, replayed = self.plan.length - 1, batch.replay.tolist()
        for number, name in enumerate(self.plan.names):
            rows, total = batch.rows_of(name), totals[name]
            again = [row for row in rows if replayed[row]]
            share = len(rows) * per_row / (total.replay + total.subject)
            replay = len(again) * per_row / max(1.0, total.replay)
            seen = Pass(share, replay, partial(self._states, batch, again))
            paid = self.guards.loss(name, seen)
            stats[number, 6] += paid.detach()
            loss = loss + paid
        return loss

    def _states(self, batch: Batch, rows: list[int]) -> list[Tensor]:
        """The output of each layer [R, T, D] on some rows of a batch."""
        some = batch.at(rows)
        watched = self.base.watching(documents=some.seen_documents)
        with self._selected(some), watched, self.base.reader.layer_outputs() as seen:
            self.head.hidden(**some.student())
        return seen

    def _selected(self, batch: Batch) -> Any:
        if len(self.plan.names) == 1:
            return self.base.using(self.weights[self.plan.names[0]])
        return self.base.rows([self.weights[owner] for owner in batch.owners])

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Taught:
        if not self.plan.objective.taught:
            return ()
        with self.base.off():
            hidden = self.head.hidden(**batch.teacher())[:, batch.context :]
        return self.head.teach(self.plan.objective, hidden.flatten(0, 1))

    @torch.no_grad()
    def _bare(self, batch: Batch, objective: Objective, rows: list[int]) -> Taught:
        """What the bare base says of some rows, read as the student reads them; zeros elsewhere."""
        with self.base.off():
            hidden = self.head.hidden(**batch.at(rows).student())
        each = batch.targets.shape[1]
        at = (torch.tensor(rows, device=self.device)[:, None] * each + torch.arange(each, device=self.device)).flatten()
        said = self.head.teach(objective, hidden.flatten(0, 1))
        return tuple(part.new_zeros(batch.targets.numel(), *part.shape[1:]).index_copy(0, at, part) for part in said)

    def _collector(self, batch: Batch) -> Collector | None:
        """A collector over replay tokens, where something asks for it; for gates also over the subject's."""
        gated = self.plan.settings.gate_weight > 0 and any(self.base.modules[n].classifies for n in self.plan.names)
        if self.plan.replay is None or not (gated or (any(self.plan.local.values()) and bool(batch.replay.any()))):
            return None
        replay = batch.replay[:, None].expand(-1, batch.targets.shape[1]).float()
        return Collector(replay, 1.0 - replay)

    def _penalties(self, batch: Batch, collector: Collector | None, totals: dict[str, Totals], stats: Tensor) -> Tensor:
        """Weighted penalties, each a mean over its own module's replay tokens of the whole step."""
        loss = torch.zeros((), device=self.device)
        if collector is None:
            return loss
        counted, subject = float(collector.token_weight.sum()), float(collector.subject_weight.sum())
        for number, name in enumerate(self.plan.names):
            module = self.base.modules[name]
            scale = counted / max(1.0, totals[name].replay)
            local = local_penalty(collector.deltas.get(name, ()), len(module.adapters)).to(self.device) * scale
            shares = torch.tensor([scale, subject / max(1.0, totals[name].subject)], device=self.device)
            gate = gate_penalty(collector.gates.get(name, ()), shares).to(self.device)
            stats[number, 4] += local.detach()
            stats[number, 5] += gate.detach()
            loss = loss + self.plan.local[name] * local
            if module.classifies:
                loss = loss + self.plan.settings.gate_weight * gate
        return loss

    def _count(self, batch: Batch, costs: Tensor, stats: Tensor) -> None:
        """Add the nats and tokens [B, T] of corpus and replay rows to each module's row of `stats`."""
        nats = (costs * (batch.target_weights > 0)).double().sum(1)
        tokens = batch.target_weights.double().sum(1)
        for number, name in enumerate(self.plan.names):
            mine = torch.tensor([owner == name for owner in batch.owners], device=self.device)
            for column, rows in ((0, mine & ~batch.replay), (2, mine & batch.replay)):
                stats[number, column] += nats[rows].sum()
                stats[number, column + 1] += tokens[rows].sum()

    def _norm(self, name: str) -> float:
        """Clip a module's gradient, and return the norm that it had; its context gate is clipped apart.

        The hinges' gradient is far larger than the rest: together they would leave the adapters next to nothing.
        """
        clip = math.inf if self.plan.settings.clip is None else self.plan.settings.clip
        gate = self.base.modules[name].gate
        apart = [] if gate is None else [p for p in gate.parameters() if p.requires_grad]
        others = [p for p in self.parameters(name) if all(p is not gated for gated in apart)]
        norms = [float(nn.utils.clip_grad_norm_(part, clip)) for part in (others, apart) if part]
        return math.hypot(*norms)

    def _check(self, step: int, by_module: dict[str, Sums]) -> None:
        for name, sums in by_module.items():
            if not (
                math.isfinite(sums.corpus + sums.replay + sums.local + sums.gate + sums.penalty)
                and math.isfinite(sums.norm)
            ):
                raise TrainingError(
                    f"the loss of '{name}' is not finite at step {step + 1} (loss {sums.loss}, gradient norm "
                    f"{sums.norm}); its parameters are those of step {step}. A smaller lr "
                    f"(now {self.plan.lr[name]:g}), a smaller clip, or precision='fp32' may help"
                )

    def _update(self, name: str, step: int) -> None:
        settings, optimizer = self.plan.settings, self.optimizers[name]
        self.moments[name].note()
        for group in optimizer.param_groups:
            group["lr"] = (
                group["share"] * self.plan.lr[name] * rate(step, self.plan.steps, settings.warmup, settings.floor)
            )
        optimizer.step()
        self.guards.after_step(name)
        optimizer.zero_grad(set_to_none=True)
