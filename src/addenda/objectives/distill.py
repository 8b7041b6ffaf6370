"""Distillation: the module learns to say what the bare base says after reading more context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.objectives.objective import Objective, Taught


@dataclass(frozen=True)
class Distill(Objective):
    """KL(teacher || student) over the teacher's `top_k` tokens and one class for all others.

    The teacher is the same model with every module off. It reads `reads` tokens of the stream before those that the
    student sees, so what the context says has to go into the module. Lumping the tail into one class keeps the
    teacher's own probabilities for the tokens kept, and gives a lower bound of the whole KL.

    Source: context distillation, Snell et al. 2022, arXiv:2209.15189; self-study of Eyuboglu et al. 2025,
    arXiv:2506.06266. Differs: on running text rather than generated conversations.
    """

    top_k: int = 64
    reads: int = 256

    name: ClassVar[str] = "distill"

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise AddendaError(f"top_k is a number of tokens, at least 1; got {self.top_k}")
        if self.reads < 0:
            raise AddendaError(f"the teacher's context is a number of tokens; got {self.reads}")

    @property
    def context(self) -> int:
        """Tokens that the teacher alone reads."""
        return self.reads

    @property
    def taught(self) -> bool:
        """Always."""
        return True

    def teach(self, logits: Tensor) -> Taught:
        """Log-probabilities [n, k] and ids [n, k] of the teacher's best tokens."""
        kept = min(self.top_k, logits.shape[-1])
        values, ids = logits.topk(kept, dim=-1)
        return values - logits.logsumexp(-1, keepdim=True), ids

    def cost(self, logits: Tensor, targets: Tensor, taught: Taught) -> Tensor:
        """Nats for each token [n]; `targets` are not read."""
        teacher, ids = taught
        student = logits.gather(-1, ids) - logits.logsumexp(-1, keepdim=True)
        inside = (teacher.exp() * (teacher - student)).sum(-1)
        if ids.shape[-1] == logits.shape[-1]:
            return inside
        rest, mine = _rest(teacher), _rest(student)
        return inside + rest.exp() * (rest - mine)


def _rest(logs: Tensor) -> Tensor:
    """Log of the probability that is left to all other tokens [n]; float32 knows none below 1e-7."""
    return torch.log1p(-logs.exp().sum(-1).clamp(max=1.0 - 1e-7))
