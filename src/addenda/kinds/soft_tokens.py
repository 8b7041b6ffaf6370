"""Soft tokens: a text of any length as a fixed number of input embeddings that stand before every prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from addenda.core.contracts import AttentionAdapter, Reader
from addenda.core.site import Anatomy, Seam
from addenda.core.text_slots import SharedSlots

#: tokens that are read at once for a start
ROW = 512


class PassingAdapter(AttentionAdapter):
    """A layer that the soft tokens pass through: what they are there, the base makes of them."""

    carries = True

    def __init__(self) -> None:
        super().__init__()
        self._where = torch.empty(0).device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        made = super()._apply(fn, recurse)
        self._where = fn(torch.empty(0, device="cpu")).device  # it has no tensor to be on a device by
        return made

    @property
    def device(self) -> torch.device:
        """Where it was moved to last."""
        return self._where

    def states(self, carry: Tensor | None) -> Tensor | None:
        """What leaves the layer below [S, D]."""
        return carry


class SoftTokenAdapter(PassingAdapter):
    """The embeddings [S, D], which enter the first layer (behind a gate, the first above it)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(count, width) * 0.02)

    def states(self, carry: Tensor | None) -> Tensor:
        """The embeddings [S, D]."""
        return self.tokens


@dataclass(frozen=True)
class SoftTokens(SharedSlots):
    """`count` input embeddings that stand before every prompt and run through the base once, whatever the text they are of.

    `init="text"` makes them from a text of any length: each is the mean embedding of one of `count` stretches of it, as
    long as a word's embedding; `addenda.train` on the text makes them say more. `init="random"` draws them.

    Source: Wu et al. 2025, "Auto-scaling Continuous Memory for GUI Agents", arXiv:2510.09038; prompt tuning of Lester et al.
    2021, arXiv:2104.08691. Differs: stretches in place of a Q-Former that is trained beforehand; all stand at one place before
    the text, whose positions and cache stay as they are.
    """

    count: int = 16
    init: Literal["random", "text"] = "text"

    default_lr: ClassVar[float] = 3e-2

    def adapters(self, anatomy: Anatomy) -> Mapping[str, PassingAdapter]:
        """The embeddings in the first layer, and nothing of their own in the others."""
        first, *others = anatomy.at(Seam.ATTENTION)
        made: dict[str, Any] = {first.key: SoftTokenAdapter(self.count, anatomy.width)}
        return made | {site.key: PassingAdapter() for site in others}

    def start(self, adapters: Mapping[str, Any], ids: Tensor, reader: Reader) -> None:
        """Means over `count` stretches of `ids` [T] of what enters the first layer, each as long as that is on average."""
        self.check_text(ids)
        with torch.no_grad():
            key, first = next(iter(adapters.items()))
            layer = int(key.split(".")[1])
            embedded = torch.cat([reader.hidden_states(row)[layer].float() for row in ids.split(ROW)])
            means = torch.stack([part.mean(0) for part in embedded.tensor_split(self.count)])
            length = embedded.norm(dim=-1).mean() / means.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            first.tokens.copy_(means * length)
