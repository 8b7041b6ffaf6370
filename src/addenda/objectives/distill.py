"""Distillation: the module learns to say what the bare base says after reading more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from addenda.objectives.over_top_k import OverTopK, divergence


@dataclass(frozen=True)
class Distill(OverTopK):
    """Say all that the base says with the document in its window: KL(teacher || student), over the teacher's `top_k` tokens.

    The teacher is the same model with every module off. Where the corpus's records have `reads`, it reads that text before
    the conversation, once and for all; else it reads `reads` tokens of the stream before those that the student sees, again
    in each step. So what the text says has to go into the module. Putting the tail into one class keeps the teacher's own
    probabilities for the tokens kept, and gives a lower bound of the whole KL.

    Source: context distillation, Snell et al. 2022, arXiv:2209.15189; self-study of Eyuboglu et al. 2025, arXiv:2506.06266.
    Differs: the tail counts, as one class.
    """

    top_k: int = 64
    reads: int = 256

    name: ClassVar[str] = "distill"

    def between(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Nats for each token [n], of the classes' log-probabilities [n, k + 1]."""
        return divergence(teacher, student)
