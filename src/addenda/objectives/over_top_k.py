"""What objectives share that follow a teacher's likeliest tokens: what it leaves of its logits, and the student's side of it."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.objectives.objective import Objective, Taught

#: the probability of all other tokens that float32 knows of, at least
LEAST = 1e-7


class OverTopK(Objective):
    """A divergence over the teacher's `top_k` tokens and one class for all others.

    The teacher is the bare base. Where records of the corpus have `reads`, it reads that text before the conversation, and
    the student does not; where they have none, it reads `reads` tokens of the stream before those that the student sees.
    """

    #: options of each
    top_k: int
    reads: int

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise AddendaError(f"top_k is a number of tokens, at least 1; got {self.top_k}")
        if self.reads < 0:
            raise AddendaError(f"the teacher's context is a number of tokens; got {self.reads}")

    @property
    def context(self) -> int:
        """Tokens that the teacher alone reads of a running text."""
        return self.reads

    @property
    def taught(self) -> bool:
        """Always."""
        return True

    @property
    def lesson(self) -> str:
        """What the teacher leaves: equal for all objectives over so many tokens."""
        return f"top {self.top_k}"

    @abstractmethod
    def between(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The cost of each token [n], in nats, from log-probabilities of the classes [n, k + 1]."""

    def cost(self, logits: Tensor, targets: Tensor, taught: Taught) -> Tensor:
        """Nats for each token [n]; `targets` are not read."""
        return self.between(*classes(logits, taught))

    def graded(self, logits: Tensor, targets: Tensor, weights: Tensor, taught: Taught) -> tuple[Tensor, Tensor]:
        """Costs [n] and gradient [n, V], in the memory of the logits.

        With slopes g for the classes' log-probabilities, G their sum, and p the student's probabilities, a token of the top has
        g - G p, and one of the rest p (g_rest / p_rest - G).
        """
        with torch.no_grad():
            teacher, student = classes(logits, taught)
        with torch.enable_grad():
            leaf = student.requires_grad_()
            costs = self.between(teacher, leaf)
            (slopes,) = torch.autograd.grad((costs * weights).sum(), leaf)
        with torch.no_grad():
            ids = taught[1]
            top, rest = slopes[:, : ids.shape[-1]], slopes[:, ids.shape[-1] :]
            if rest.shape[-1]:  # where float32 knows of no others, nothing depends on them
                rest = torch.where(student[:, -1:].exp() > LEAST, rest, 0.0)
            whole = top.sum(-1, keepdim=True) + rest.sum(-1, keepdim=True)
            gradient = logits.sub_(logits.logsumexp(-1, keepdim=True)).exp_()
            picked = top - whole * gradient.gather(-1, ids)
            gradient.mul_((rest / student[:, -1:].exp() if rest.shape[-1] else 0.0) - whole)
            gradient.scatter_(-1, ids, picked)
        return costs.detach(), gradient

    def teach(self, logits: Tensor) -> Taught:
        """Log-probabilities [n, k + 1] of the teacher's best tokens and of all others together, and the ids [n, k].

        Where k is the whole vocabulary there are no others: [n, k].
        """
        kept = min(self.top_k, logits.shape[-1])
        values, ids = logits.topk(kept, dim=-1)
        return with_rest(values - logits.logsumexp(-1, keepdim=True), logits.shape[-1]), ids


def classes(logits: Tensor, taught: Taught) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the classes [n, k + 1], the teacher's and the student's, from the student's logits [n, V]."""
    teacher, ids = taught
    student = logits.gather(-1, ids) - logits.logsumexp(-1, keepdim=True)
    return teacher, with_rest(student, logits.shape[-1])


def with_rest(logs: Tensor, vocabulary: int) -> Tensor:
    """Log-probabilities [n, k] with that of all other tokens behind them; float32 knows none below `LEAST`."""
    if logs.shape[-1] == vocabulary:
        return logs
    rest = torch.log1p(-logs.exp().sum(-1, keepdim=True).clamp(max=1.0 - LEAST))
    return torch.cat([logs, rest], -1)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second) [n], in nats, of log-probabilities [n, c]."""
    return (first.exp() * (first - second)).sum(-1)
