"""Second moments that every training run keeps of its modules' gradients, whatever its optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from addenda.core.moments import Moment, named

#: how much of the mean so far stays at each step: Adam's beta2
BETA = 0.999
_STEPS = "steps"


class SecondMoments:
    """Running means of squared gradients, as each step is given them: v <- beta v + (1 - beta) g^2, in rank-1 form.

    Averages of row and column means are those of the averages, so nothing is lost by keeping these alone.
    """

    def __init__(self, learning: Mapping[str, nn.Parameter]) -> None:
        self.learning = dict(learning)
        with torch.no_grad():
            zeros = {name: Moment.of(torch.zeros_like(p, dtype=torch.float32)) for name, p in self.learning.items()}
        self.values = named(zeros)
        self.steps = 0

    @torch.no_grad()
    def note(self) -> None:
        """Take in the gradients as they stand; a parameter without one counts as zero."""
        for name, p in self.learning.items():
            squares = torch.zeros_like(p) if p.grad is None else p.grad.float().square()
            for key, value in named({name: Moment.of(squares)}).items():
                self.values[key].lerp_(value, 1 - BETA)
        self.steps += 1

    def kept(self) -> dict[str, Tensor]:
        """What is kept beside the module, without the bias of the start at zero; nothing where no step was taken."""
        if not self.steps:
            return {}
        share = 1 - BETA**self.steps
        # a module whose file cannot be written would be lost for the sake of its moments
        return {name: torch.nan_to_num(value / share) for name, value in self.values.items()}

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs."""
        return {_STEPS: torch.tensor(self.steps), **self.values}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `state` gave; from a checkpoint without any they start anew."""
        if _STEPS in tensors:
            self.steps = int(tensors[_STEPS])
            for name, value in self.values.items():
                value.copy_(tensors[name])
