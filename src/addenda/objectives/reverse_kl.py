"""Reverse KL: the module learns to say nothing that the bare base would not say after reading more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from addenda.objectives.over_top_k import OverTopK, divergence


@dataclass(frozen=True)
class ReverseKL(OverTopK):
    """Say only what the base says with the document in its window: KL(student || teacher), over the teacher's `top_k` tokens.

    It seeks one of the teacher's answers, where `distill` covers all of them. The teacher is that of `distill`, and what it
    left is the same: runs of both share it. Beyond its `top_k` tokens the teacher tells only how likely all others are
    together, so the cost is a lower bound of the whole reverse KL, and how the student shares out its own tail is free.

    Source: Gu et al. 2023, arXiv:2306.08543 (MiniLLM). Differs: over the top tokens and a rest, on the tokens of the records
    rather than the student's own; `on_policy` takes those.
    """

    top_k: int = 64
    reads: int = 256

    name: ClassVar[str] = "reverse_kl"

    def between(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Nats for each token [n], of the classes' log-probabilities [n, k + 1]."""
        return divergence(student, teacher)
