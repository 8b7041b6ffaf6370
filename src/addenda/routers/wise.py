"""WISE's activation distance: how much the module itself would change on a prompt, decided once for the whole prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from addenda.core.contracts import Adapter, AddingAdapter
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.module import KnowledgeModule
from addenda.core.site import Anatomy
from addenda.routers.router import Keys, Router, counted


@dataclass(frozen=True)
class Wise(Router):
    """The module that would change most on the prompt: for side memories, and for shards of one subject.

    D = the mean over the prompt's tokens of the size ||d_t|| of what the module adds at `layer` (a number, or "last": the last
    one that it touches; several sites there are averaged) to the bare base's activations, behind its gate if it has one. The
    module is used where D > eps, eps = `margin` times the least D over its own prompts, and raised until general prompts are
    left alone; of several that pass, the one with the largest D. In a prompt of more than `long` tokens D is the largest
    token's, if `long` is given.

    Source: WISE, Wang et al. 2024, NeurIPS, arXiv:2405.14768, equations 4 and 5, and its retrieval of shards. Differs: the
    module adds beside a frozen layer in place of an edited copy of it, so D is the size of the addition, without the activation
    that the published code puts on both outputs; the first token does not count; training is the module's own, without the
    margin loss; eps heeds general text (`at_most=1` is the published rule); `long`, 100 in the published code, is not given, for
    an eps from short prompts does not hold a largest token.

    Measured: `tiny`, 1 seed, a LoRA of rank 8 on 12,000 tokens each of French and PubMed, 100 held-out prompts of each sort,
    `at_most` 5%. Of prompts of 40 words 53% went to the right module (French 100%, PubMed 6%) and none to the wrong one, of 10
    words the same; of Wikipedia, textbooks, novels and contracts 0 to 7% went to any. Far behind `nearest` (87%, on PubMed 70%
    and more), which also reads fewer layers.
    """

    layer: int | Literal["last"] = "last"
    margin: float = 0.88
    long: int | None = None
    name: ClassVar[str] = "wise"
    nearer: ClassVar[bool] = False
    of_module: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.margin <= 1 or (self.long is not None and self.long < 1):
            told = "margin is above 0, at most 1, and long at least 1"
            raise AddendaError(f"wise: {told}; got {self.margin}, {self.long}")

    def sites(self, module: KnowledgeModule, anatomy: Anatomy) -> Sequence[str]:
        """The module's sites at the layer, and the site that its gate reads."""
        gate = [] if module.gate is None else [module.gate.site]
        return [*dict.fromkeys([*self._adding(module), *gate])]

    def _adding(self, module: KnowledgeModule) -> list[str]:
        """The module's sites at the layer."""
        adds = [key for key in module.sites() if isinstance(module.adapter(key), AddingAdapter)]
        layers = {key: int(key.split(".")[1]) for key in adds}
        if not layers:
            raise UnsupportedError(
                f"wise measures what a module adds beside an FFN or a linear layer, and '{module.name}' is of the kind "
                f"{type(module.kind).__name__}, which adds nothing there; route to it with nearest"
            )
        layer = max(layers.values()) if self.layer == "last" else self.layer
        if layer not in layers.values():
            there = ", ".join(map(str, sorted(set(layers.values()))))
            raise AddendaError(f"wise: '{module.name}' adds nothing at layer {layer}; its layers are {there}")
        return [key for key, at in layers.items() if at == layer]

    def features(self, module: KnowledgeModule, inputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """D [B, 1]."""
        gate, weight = module.gate, None
        if gate is not None:
            at = gate.threshold.device
            statistic, _ = gate(inputs[gate.site].to(at), None, mask.to(at))
            weight = gate.amplitude(statistic).unsqueeze(-1)
        size = torch.stack([_size(module.adapter(key), inputs[key], weight) for key in self._adding(module)]).mean(0)
        rest = counted(mask)
        mean = torch.where(rest, size, 0.0).sum(1) / rest.sum(1)
        if self.long is not None:
            mean = torch.where(mask.sum(1) > self.long, torch.where(rest, size, 0.0).amax(1), mean)
        return mean.unsqueeze(-1)

    def learn(self, subject: Tensor, general: Tensor) -> dict[str, Tensor]:
        """`least` [], the least D over the module's own prompts."""
        return {"least": subject.min()}

    def distances(self, keys: Keys, features: Tensor) -> Tensor:
        """D."""
        return features[:, 0]

    def threshold(self, keys: Keys, share: float) -> float:
        """The published eps, or the one that general prompts ask for where that is higher."""
        return max(self.margin * float(keys["least"]), super().threshold(keys, share))


def _size(adapter: Adapter, x: Tensor, weight: Tensor | None) -> Tensor:
    """The size [B, T] of what an adapter adds for inputs [B, T, D], times a weight [B, T, 1], on the CPU."""
    assert isinstance(adapter, AddingAdapter)
    x = x.to(adapter.device)
    added = adapter.contribution(x, weight=1.0 if weight is None else weight.to(x.device))
    if added is None:
        return torch.zeros(x.shape[:2])
    return added.add_to(added.delta.new_zeros(*x.shape[:2], added.delta.shape[-1])).float().norm(dim=-1).cpu()
