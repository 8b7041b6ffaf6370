"""What a forgetter promises: what forgetting a row costs, and a rule that steps from the gradients of two sides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from addenda.core.method import Method
from addenda.core.module import KnowledgeModule

#: gradients by the parameter's name
Gradients = Mapping[str, Tensor]


class Rule(ABC):
    """A forgetter at work on parameters by name. All it keeps between steps is the state of its torch optimizers.

    Whoever runs it sets the rate of every group before each step, and keeps `optimizers` in checkpoints.
    """

    parameters: Mapping[str, nn.Parameter]
    optimizers: Mapping[str, torch.optim.Optimizer]

    @abstractmethod
    def step(self, forget: Gradients, retain: Sequence[Gradients]) -> None:
        """Change the parameters in place, once.

        Args:
            forget: of the mean over rows of the forgetter's `cost`; all zero where nothing is left to forget.
            retain: of the mean loss of each retain batch.
        """

    def apply(self, optimizer: str, gradients: Gradients) -> None:
        """One step of an optimizer with these gradients."""
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name]
        self.optimizers[optimizer].step()
        self.optimizers[optimizer].zero_grad(set_to_none=True)


class Forgetter(Method):
    """Options of one forgetter; a subclass is a frozen dataclass in a file of its own under `forgetters/`."""

    stage = "forgetter"

    @property
    def batches(self) -> int:
        """Retain batches of one step, each with gradients of its own."""
        return 1

    def check(self, module: KnowledgeModule) -> None:
        """Refuse a module that it cannot work on.

        Raises:
            AddendaError: says why, and what to do.
        """

    @abstractmethod
    def cost(self, losses: Tensor, bare: Tensor) -> Tensor:
        """What still being known costs each row [B], to be lowered.

        Args:
            losses: nats per token of each row with the module [B].
            bare: the same of the bare base [B].
        """

    @abstractmethod
    def over(self, module: KnowledgeModule, parameters: Mapping[str, nn.Parameter], lr: float) -> Rule:
        """The rule over those of a module's parameters that learn, by name (`layers.3.ffn.down`)."""

    def remaining(self, module: KnowledgeModule) -> dict[str, float]:
        """The norm of each group that it may remove, by name; 0 is removed. Empty: it removes none."""
        return {}


def hinge(losses: Tensor, bare: Tensor, bound: float | None) -> Tensor:
    """Nats per token that a row [B] is still known better than `bound`, or than by the bare base where that is None.

    Its gradient is exactly 0 for a row beyond the bound, so that forgetting ends.
    """
    return torch.relu((bare if bound is None else torch.full_like(bare, bound)) - losses)


def mean(gradients: Sequence[Gradients]) -> Gradients:
    """The mean of several gradients, parameter by parameter."""
    return {name: torch.stack([each[name] for each in gradients]).mean(0) for name in gradients[0]}
