"""Language modelling: the negative log-likelihood of each token that came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
