"""The start of a context gate: fitted to tell corpus from replay before the first step of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addenda.core.gates import ContextGate
from addenda.writing.batches import Item, stack

if TYPE_CHECKING:
    from addenda.plugging import Base
    from addenda.writing.plan import Plan

#: rows of each stream read at most and at least; in between a quarter of the tokens to train on is read
ROWS = 16, 256
#: every so many tokens one is fitted: neighbours have nearly the same average
EVERY = 4
#: weight of the ridge, relative to the mean square of a term
RIDGE = 0.03


@torch.no_grad()
def fit_gate(base: Base, plan: Plan, name: str) -> None:
    """Give a fresh gate that has its prior the weight and bias that come nearest to 1 on the corpus and -1 on replay.

    What the gate reads lies below everything that the module changes, so this is least squares with a ridge on the
    bare base's activations: solved at once, whatever the learning rate, where training alone would spend its first
    hundreds of steps with a gate that cannot tell the two apart.
    """
    gate = base.modules[name].gate
    assert gate is not None
    least, most = ROWS
    wanted = min(most, max(least, plan.steps * plan.tokens_per_step // (8 * plan.length)))
    mixture = plan.mixture(base)
    assert mixture.replay is not None
    size = gate.weight.numel() + 1
    normal = torch.zeros(size, size, dtype=torch.float64)
    right = torch.zeros(size, dtype=torch.float64)
    for feed, target in ((mixture.corpora[name], 1.0), (mixture.replay, -1.0)):
        rows = [Item(feed.take(), name, target < 0) for _ in range(wanted)]
        share = 1.0 / (wanted * len(range(EVERY - 1, plan.length - 1, EVERY)))
        for at in range(0, wanted, plan.settings.batch_rows):
            terms, offset = _terms(base, gate, rows[at : at + plan.settings.batch_rows], plan)
            normal += share * (terms.T @ terms)
            right += share * (terms.T @ (target - offset))
    ridge = RIDGE * normal.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    found = torch.linalg.solve(normal + ridge, right)
    gate.weight.copy_(found[:-1])
    gate.bias.copy_(found[-1])


def _terms(base: Base, gate: ContextGate, rows: list[Item], plan: Plan) -> tuple[Tensor, Tensor]:
    """Terms [n, D + 1] and offsets [n] of the gate's score on some rows, float64 on the CPU."""
    batch = stack(rows, base.device, context=plan.context, dtype=base.host.dtype())
    site = base.host.site(gate.site)
    x = base.reader.entries([site], batch.student()["ids"])[site.key]
    terms, offset = gate.terms(x, batch.seen_documents.to(x.device))
    every = slice(EVERY - 1, None, EVERY)
    return terms[:, every].flatten(0, 1).double().cpu(), offset[:, every].flatten().double().cpu()
