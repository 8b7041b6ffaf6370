"""Language modelling: the negative log-likelihood of each token that came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.objectives.objective import Objective, Taught


@dataclass(frozen=True)
class LanguageModelling(Objective):
    """-log p(token | what stands before it)."""

    name: ClassVar[str] = "lm"

    def cost(self, logits: Tensor, targets: Tensor, taught: Taught = ()) -> Tensor:
        """Nats for each token [n], from logits [n, V] and the tokens that came [n]."""
        return F.cross_entropy(logits, targets, reduction="none")

    @torch.no_grad()
    def graded(self, logits: Tensor, targets: Tensor, weights: Tensor, taught: Taught = ()) -> tuple[Tensor, Tensor]:
        """Costs [n] and gradient [n, V]: softmax minus one-hot, in the memory of the log-probabilities."""
        rows, logs = targets[:, None], logits.log_softmax(-1)
        costs = -logs.gather(-1, rows)
        gradient = logs.exp_()
        gradient.scatter_add_(-1, rows, torch.full_like(costs, -1.0))
        return costs.squeeze(-1), gradient.mul_(weights[:, None])
