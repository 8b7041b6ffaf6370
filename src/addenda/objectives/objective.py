"""What an objective promises: a cost per predicted token from its logits, and what the teacher left behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from addenda.core.errors import AddendaError, known

Taught = tuple[Tensor, ...]


class Objective(ABC):
    """A frozen dataclass of options in a file of its own under `objectives/`.

    Logits come in chunks of n tokens, float32 [n, V], and never whole.
    """

    name: ClassVar[str]

    @property
    def context(self) -> int:
        """Tokens that a teacher reads before those that the student reads; 0 where there is no teacher."""
        return 0

    @property
    def taught(self) -> bool:
        """Whether a teacher reads each batch first: the same model with the module off."""
        return False

    def teach(self, logits: Tensor) -> Taught:
        """What the student needs of the teacher's logits [n, V]: tensors whose first axis is n."""
        raise NotImplementedError

    def graded(self, logits: Tensor, targets: Tensor, weights: Tensor, taught: Taught) -> tuple[Tensor, Tensor]:
        """The costs [n], and the gradient [n, V] of their weighted sum for the logits; may use the logits' memory."""
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            costs = self.cost(leaf, targets, taught)
            (gradient,) = torch.autograd.grad((costs * weights).sum(), leaf)
        return costs.detach(), gradient

    @abstractmethod
    def cost(self, logits: Tensor, targets: Tensor, taught: Taught) -> Tensor:
        """The cost of each token [n], in nats, from logits [n, V], the tokens that came [n], and what was taught."""


def objective_named(name: str, *, top_k: int = 64, context: int = 0) -> Objective:
    """The objective `lm` or `distill`; the options are those of `distill`.

    Raises:
        AddendaError: there is none of that name.
    """
    from addenda.objectives.distill import Distill
    from addenda.objectives.lm import LanguageModelling

    if name == LanguageModelling.name:
        return LanguageModelling()
    if name == Distill.name:
        return Distill(top_k=top_k, reads=context)
    raise AddendaError(f"no objective is called '{name}'; there are {known(name, ['lm', 'distill'])}")
