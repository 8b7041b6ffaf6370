"""AdamW over one module's parameters: matrices decay, vectors and gates do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from addenda.optimizers.optimizer import Group, OptimizerMethod, check_moments


@dataclass(frozen=True)
class AdamW(OptimizerMethod):
    """Adam with decoupled decay: the default, for modules of any size.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        check_moments(self.name, self.beta1, self.beta2, self.eps)

    def over(self, groups: list[Group], lr: float) -> torch.optim.AdamW:
        """torch's own, fused where it can be; keeps `exp_avg`, `exp_avg_sq` and `step`."""
        fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
        return torch.optim.AdamW(groups, lr=lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=fused or None)


def adamw(parameters: Iterable[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    """AdamW over parameters; options as `OptimizerMethod.make` has them."""
    return AdamW().make(parameters, **options)
