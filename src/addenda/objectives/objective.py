"""What an objective promises: a cost per predicted token from its logits, and what the teacher left behind."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from addenda.core.method import Method
from addenda.core.registry import asked_for, recorded

Taught = tuple[Tensor, ...]


@dataclass(frozen=True)
class Answering:
    """How a student answers between the rounds of a run: `rounds` equal parts, answers of so many `tokens` at most.

    `temperature` 0 is greedy. With `as_given` the first round learns from the records' own answers.
    """

    rounds: int
    tokens: int
    temperature: float
    as_given: bool


class Objective(Method):
    """A frozen dataclass of options in a file of its own under `objectives/`.

    Logits come in chunks of n tokens, float32 [n, V], and never whole.
    """

    stage = "objective"

    @property
    def context(self) -> int:
        """Tokens that a teacher reads before those that the student reads; 0 where there is no teacher."""
        return 0

    @property
    def taught(self) -> bool:
        """Whether a teacher reads each batch first: the same model with the module off."""
        return False

    @property
    def lesson(self) -> str:
        """What `teach` leaves, in words: objectives that say the same share what one teacher left on disk."""
        return json.dumps(recorded(self), sort_keys=True)

    @property
    def answering(self) -> Answering | None:
        """How the student's own answers become what it learns from; None where it learns from the text as it is."""
        return None

    def teach(self, logits: Tensor) -> Taught:
        """What the student needs of the teacher's logits [n, V]: tensors [n, ...], of log-probabilities or of token ids."""
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


@cache
def likelihood() -> Objective:
    """What a token costs wherever nothing else is asked for: its negative log-likelihood, as text is scored."""
    return asked_for(Objective, "lm")
