"""GaLore: Adam's moments in a low-rank subspace of each matrix's gradient, so that they take little memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from addenda.core.errors import AddendaError
from addenda.optimizers.optimizer import Group, OptimizerMethod


class LowRankAdam(torch.optim.Optimizer):
    """For a gradient G [m, n], n <= m: R = G Q, N is Adam's step on R, W <- W - lr * scale * N Q^T; for n > m the same of G^T.

    Q [n, r] holds the first right singular vectors of G, taken anew every so many steps; the moments stay as they are then.
    Matrices whose shorter side is at most r, and vectors, take Adam's own step. Decay comes after the step.
    """

    def __init__(self, groups: list[Group], lr: float, method: GaLore) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "share": 1.0})
        self.method = method

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step over all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._one(parameter, group)
        return loss

    def _one(self, parameter: nn.Parameter, group: Group) -> None:
        assert parameter.grad is not None
        state, gradient, method = self.state[parameter], parameter.grad, self.method
        low = gradient.dim() == 2 and min(gradient.shape) > method.rank
        wide = low and gradient.shape[1] > gradient.shape[0]
        gradient = gradient.T if wide else gradient
        state["step"] = state["step"].cpu() if state else torch.zeros(())  # counted where nothing has to be waited for
        if low and int(state["step"]) % method.every == 0:
            state["basis"] = _basis(gradient, method.rank)
        seen = gradient @ state["basis"] if low else gradient
        if "exp_avg" not in state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(seen), torch.zeros_like(seen)
        state["step"] += 1
        change = _adam(seen, state, method)
        if low:
            change = method.scale * (change @ state["basis"].T)
        parameter.add_(change.T if wide else change, alpha=-group["lr"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])


def _basis(gradient: Tensor, rank: int) -> Tensor:
    """The first right singular vectors [n, r] of a gradient [m, n], n <= m: eigenvectors of the smaller product."""
    _, vectors = torch.linalg.eigh((gradient.T @ gradient).float())
    return vectors[:, -rank:].to(gradient.dtype).contiguous()


def _adam(gradient: Tensor, state: dict[str, Tensor], method: GaLore) -> Tensor:
    first, second, step = state["exp_avg"], state["exp_avg_sq"], float(state["step"])
    first.lerp_(gradient, 1 - method.beta1)
    second.mul_(method.beta2).addcmul_(gradient, gradient, value=1 - method.beta2)
    size = (second / (1 - method.beta2**step)).sqrt_().add_(method.eps)
    return first / (1 - method.beta1**step) / size


@dataclass(frozen=True)
class GaLore(OptimizerMethod):
    """Adam in a low-rank subspace of each gradient: for large modules, where Adam's moments do not fit.

    Moments take r * (longer side) numbers for each matrix in place of both sides' product, and the subspace r * (shorter side).
    `scale` multiplies the step of what is projected, so its rate is about 1 / scale of AdamW's. Differs from AdamW at every
    rank: Adam depends on the coordinates.

    Source: Zhao et al. 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", ICML, arXiv:2403.03507;
    defaults are the paper's but for `rank`. Differs: the subspace comes from the smaller product's eigenvectors.
    """

    rank: int = 32
    every: int = 200
    scale: float = 0.25
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    name: ClassVar[str] = "galore"

    def __post_init__(self) -> None:
        for name in ("rank", "every"):
            if getattr(self, name) < 1:
                raise AddendaError(f"galore: {name} is at least 1; got {getattr(self, name)}")
        if not 0 < self.scale < float("inf"):
            raise AddendaError(f"galore: scale is positive; got {self.scale}")

    def over(self, groups: list[Group], lr: float) -> LowRankAdam:
        """Keeps `exp_avg`, `exp_avg_sq`, `step`, and of each matrix that is projected its `basis`."""
        return LowRankAdam(groups, lr, self)
