"""Group-sparse forgetting: whole groups of a module's parameters end at exactly zero, where what stays does not need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from addenda.forgetters.forgetter import Forgetter, Gradients, Rule, hinge, mean


@dataclass(frozen=True)
class GroupSparse(Forgetter):
    """Forget a text, and remove whole layers of the module for good that only it needed.

    A group is all that the module has in a `layer`, or at a `site`. Groups that the retain text does not hold up shrink, and
    those that reach zero stay there. In a step a group's root mean square shrinks by rate * `alpha`: the larger, the fewer are
    left; with a large one all go, and the base is alone.
    `forget` weighs the forget text's cost. A row is pushed no further than `bound` nats per token, by default the bare base's
    own loss on it. With a `bound` above that, a fresh LoRA learns to suppress what the base itself knows: only as long as it is
    on.

    Source: "Continual Forgetting for Pre-trained Vision Models" (GS-LoRA, CVPR 2024) and GS-LoRA++ (2025):
    beta * relu(bound - CE_forget) + CE_retain + alpha * sum over groups of sqrt(||A||^2 + ||B||^2). Differs: the lasso is a
    proximal step after Adam's, p * max(0, 1 - lr * alpha * sqrt(n) / ||group||) with n the group's parameters, so zeros are
    exact; it prunes the module that knows, beside the published way, a fresh one over a model that does; no prototypes, which a
    language model has no classes for.

    Measured: not yet on real text. On pico models alpha from 0 to 100 leaves ever fewer groups, at 100 none.
    """

    alpha: float = 1.0
    forget: float = 1.0
    bound: float | None = None
    group: Literal["layer", "site"] = "layer"

    name: ClassVar[str] = "gs_lora"

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and self.forget >= 0):
            raise AddendaError(f"gs_lora: alpha and forget are not negative; got {self.alpha} and {self.forget}")

    def check(self, module: KnowledgeModule) -> None:
        """Refuse kinds whose adapters are not gone when their parameters are zero."""
        if not all(module.adapter(site).vanishes for site in module.sites()):
            raise AddendaError(
                f"gs_lora removes groups, and {type(module.kind).__name__} has none: with all parameters at zero it still "
                f"acts; choose method='gu', or forget '{module.name}' whole"
            )

    def cost(self, losses: Tensor, bare: Tensor) -> Tensor:
        """The weighted hinge [B]."""
        return self.forget * hinge(losses, bare, self.bound)

    def over(self, module: KnowledgeModule, parameters: Mapping[str, nn.Parameter], lr: float) -> Rule:
        """AdamW, then the lasso's proximal step."""
        groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            groups.setdefault(self._group(name.rpartition(".")[0]), []).append(parameter)
        return _Lasso(parameters, list(groups.values()), lr, self.alpha)

    def remaining(self, module: KnowledgeModule) -> dict[str, float]:
        """The norm of each group."""
        squares: dict[str, float] = {}
        for site in module.sites():
            own = sum(float(p.detach().double().square().sum()) for p in module.adapter(site).parameters())
            squares[self._group(site)] = squares.get(self._group(site), 0.0) + own
        return {name: square**0.5 for name, square in squares.items()}

    def _group(self, site: str) -> str:
        return ".".join(site.split(".")[:2]) if self.group == "layer" else site


class _Lasso(Rule):
    def __init__(
        self, parameters: Mapping[str, nn.Parameter], groups: list[list[nn.Parameter]], lr: float, alpha: float
    ) -> None:
        self.parameters, self.groups, self.alpha = parameters, groups, alpha
        self.optimizers = {"both": torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=0.0)}

    @torch.no_grad()
    def step(self, forget: Gradients, retain: Sequence[Gradients]) -> None:
        """Adam on forget + retain; then every group shrinks, and one that was zero stays so."""
        gone = [not any(bool(p.any()) for p in group) for group in self.groups]
        keep = mean(retain)
        self.apply("both", {name: forget[name] + keep[name] for name in self.parameters})
        lr = self.optimizers["both"].param_groups[0]["lr"]
        for group, was_gone in zip(self.groups, gone, strict=True):
            norm = torch.stack([p.double().square().sum() for p in group]).sum().sqrt()
            less = lr * self.alpha * sum(p.numel() for p in group) ** 0.5
            share = 0.0 if was_gone or not norm else float((1 - less / norm).clamp_min(0.0))
            for p in group:
                p.mul_(share) if share else p.zero_()
