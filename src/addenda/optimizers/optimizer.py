"""What an optimizer promises: a torch optimizer over groups, whose whole state is tensors that a checkpoint can name."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from addenda.core.errors import AddendaError
from addenda.core.method import Method

#: a group of a torch optimizer
Group = dict[str, Any]


class OptimizerMethod(Method):
    """Options of one optimizer; a subclass is a frozen dataclass in a file of its own under `optimizers/`."""

    stage = "optimizer"

    @abstractmethod
    def over(self, groups: list[Group], lr: float) -> torch.optim.Optimizer:
        """A torch optimizer over groups, each with its `lr` and `weight_decay`.

        What it keeps of a parameter between steps is tensors under names of its own, from the first step on.
        """

    def make(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        slower: Iterable[nn.Parameter] = (),
        share: float = 1.0,
    ) -> torch.optim.Optimizer:
        """The optimizer over parameters: matrices decay, vectors (gates, biases, scales) do not.

        Parameters that are also in `slower` take a `share` of the learning rate. Who changes a group's rate later multiplies
        it by `group["share"]`.
        """
        chosen, slow = [p for p in parameters if p.requires_grad], {id(p) for p in slower}
        groups = [
            {
                "params": [p for p in chosen if (p.dim() >= 2) == matrices and (id(p) in slow) == late],
                "weight_decay": weight_decay if matrices else 0.0,
                "share": share if late else 1.0,
                "lr": lr * share if late else lr,
            }
            for late in (False, True)
            for matrices in (True, False)
        ]
        return self.over([group for group in groups if group["params"]], lr)


def check_moments(name: str, beta1: float, beta2: float, eps: float) -> None:
    """Refuse decays and an offset of Adam's moments with which a step is no number.

    Raises:
        AddendaError: names the optimizer and the option.
    """
    for option, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise AddendaError(f"{name}: {option} is a share from 0 up to, not including, 1; got {beta}")
    if not 0 < eps < math.inf:
        raise AddendaError(f"{name}: eps is positive and finite; got {eps}")


def rate(step: int, steps: int, warmup: float, floor: float) -> float:
    """Share of the full learning rate at `step` of `steps`: linear up over a share `warmup`, cosine down to `floor`."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    along = (step - rising) / max(1, steps - rising)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Any, str]) -> dict[str, Tensor]:
    """All that an optimizer keeps, by what it is and the parameter's name: `exp_avg.NAME`."""
    return {
        f"{what}.{names[parameter]}": tensor
        for parameter, state in optimizer.state.items()
        for what, tensor in state.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], names: Mapping[nn.Parameter, str]
) -> None:
    """Put back, bit by bit, what `optimizer_tensors` gave; parameters without any start afresh."""
    kept: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        what, _, name = key.partition(".")
        kept.setdefault(name, {})[what] = tensor
    for parameter, name in names.items():
        if name in kept:  # on its device: fused kernels want even step counts there
            optimizer.state[parameter] = {w: t.to(parameter.device).clone() for w, t in kept[name].items()}
