"""AdamW over one module's parameters: matrices decay, vectors and gates do not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def adamw(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    slower: Iterable[nn.Parameter] = (),
    share: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW with decoupled decay on matrices alone; gates, biases and scales are vectors and take none.

    Parameters that are also in `slower` take a `share` of the learning rate. Who changes a group's rate later
    multiplies it by `group["share"]`.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
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
    fused = all(p.device.type in ("cpu", "cuda") for p in chosen)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps, fused=fused or None)


def rate(step: int, steps: int, warmup: float, floor: float) -> float:
    """Share of the full learning rate at `step` of `steps`: linear up over a share `warmup`, cosine down to `floor`."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    along = (step - rising) / max(1, steps - rising)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def optimizer_tensors(optimizer: torch.optim.AdamW, names: dict[Any, str]) -> dict[str, Tensor]:
    """The moments and step counts by parameter name: `first.NAME`, `second.NAME`, `step.NAME`."""
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        name = names[parameter]
        tensors |= {
            f"first.{name}": state["exp_avg"],
            f"second.{name}": state["exp_avg_sq"],
            f"step.{name}": state["step"],
        }
    return tensors


def load_optimizer_tensors(
    optimizer: torch.optim.AdamW, tensors: dict[str, Tensor], names: dict[nn.Parameter, str]
) -> None:
    """Put moments and step counts back, bit by bit; parameters without any start afresh."""
    for parameter, name in names.items():
        if f"step.{name}" in tensors:
            optimizer.state[parameter] = {
                "step": tensors[f"step.{name}"].to(parameter.device).clone(),  # the fused kernel wants it there
                "exp_avg": tensors[f"first.{name}"].to(parameter.device, parameter.dtype).clone(),
                "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device, parameter.dtype).clone(),
            }
