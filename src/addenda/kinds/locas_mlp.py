"""Locas-MLP: slots beside each plain FFN, written in closed form from activations and gradients, and compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.activations import Activation
from addenda.core.contracts import Adapter, into
from addenda.core.registry import build
from addenda.core.site import Anatomy
from addenda.core.slots import SCALE, Slots, Tap, WrittenSlots
from addenda.core.units import FewerUnits, Units

Compression = Literal["published", "oriented", "refit"]
#: length of a slot that is written, where its value is multiplied by SCALE
EPS = 0.3


class PlainSlotAdapter(WrittenSlots):
    """delta(x) = tau * V^T phi(K x), K and V being `keys` and `values` [r, D].

    A slot whose value is zero is free.
    """

    def __init__(self, width: int, rank: int, phi: Activation, own: str | None, eps: float, how: Compression) -> None:
        super().__init__(phi)
        self.keys = nn.Parameter(F.normalize(torch.randn(rank, width), dim=-1))
        self.values = nn.Parameter(torch.zeros(rank, width))
        self.own, self.eps, self.how = own, eps, how
        self._tapped: list[Tap] | None = None

    def delta(self, x: Tensor) -> Tensor:
        """The contribution [..., D]."""
        out = self.phi(F.linear(into(x, self.keys), self.keys)) @ (self.values * self.tau)
        if self._tapped is None or not torch.is_grad_enabled():
            return out
        tap = torch.zeros_like(out, requires_grad=True)
        self._tapped.append((x.detach(), tap))
        return out + tap

    @contextmanager
    def tapped(self) -> Iterator[list[Tap]]:
        """For forwards of a block: what enters the site, and a zero [..., D] whose gradient is that of its output."""
        self._tapped = []
        try:
            yield self._tapped
        finally:
            self._tapped = None

    def aim(self, directions: Tensor) -> None:
        """The keys themselves."""
        self.keys.copy_(directions)

    def clone(self, units: Units, chosen: Tensor) -> None:
        """Keys from what the units read."""
        self.keys.copy_(F.normalize(units.up[chosen].float(), dim=-1))

    def fold(self) -> Units:
        """The slots as units of the base's FFN, tau in their values."""
        return Units(self.keys.detach().float(), self.values.detach().float() * self.tau.float(), activation=self.own)

    @torch.no_grad()
    def write(self, keys: Tensor, values: Tensor, text: Tensor | None = None) -> None:
        """Write new slots [n, D], compressing those there are whenever none is free; `text` [T, D] as for `compress`."""
        while len(keys):
            free = (self.values.norm(dim=-1) == 0).nonzero().squeeze(-1)
            if len(free) == 0:
                self.compress(text=text)
                free = (self.values.norm(dim=-1) == 0).nonzero().squeeze(-1)
            taken = min(len(free), len(keys))
            self.keys[free[:taken]] = keys[:taken].to(self.keys)
            self.values[free[:taken]] = values[:taken].to(self.values)
            keys, values = keys[taken:], values[taken:]
        self.constrain()

    @torch.no_grad()
    def compress(self, keep: int | None = None, text: Tensor | None = None) -> None:
        """Compress the slots to `keep` (default: half), freeing the others.

        `text` [T, D] are activations as they enter the site, to refit on beside those that the keys were once, at the
        length that they have here.
        """
        keep = len(self.keys) // 2 if keep is None else keep
        if text is None:
            text = self.keys
        else:
            text = text.to(self.keys)
            text = torch.cat([text, self.keys * text.norm(dim=-1).mean()])
        keys, values = _compressor(self.how).fewer(self.keys, self.values, self.phi, keep, text)
        self.values.zero_()
        self.keys[: len(keys)] = keys
        self.values[: len(values)] = values
        self.constrain()


@cache
def _compressor(how: Compression) -> FewerUnits:
    return cast("FewerUnits", build("compressor", "nl_svd", {"how": how}))


@dataclass(frozen=True)
class LocasMLP(Slots):
    """A memory of `rank` slots beside each plain FFN, for `addenda.memorize`; `addenda.merge` folds it into the base.

    `memorize` writes it in closed form: a slot for each token and layer, whose key is what enters the FFN there and whose
    value is the gradient of the chunk's log-probability there, `eps` long over all layers. When no slot is free, the
    slots are compressed to half their number (`compress`: `published` NL-SVD, `oriented`, or `refit` by least squares).
    It can be trained by gradient steps as well; `init` says from which keys, as for `LocasGLU`. Values start at zero.
    `activation` is the base's own, or `relu`.

    Source: Locas 2026, arXiv:2602.05085, "Locas-MLP" and "NL-SVD". Differs: the compressions `oriented` and `refit`; and
    one backward pass over a whole chunk, so that a token's gradient counts the later tokens of the chunk as well.

    Measured: stretches of two novels, `tiny` with plain FFNs, 6 cases, 64 slots: in closed form it gains 0.135 nats per token
    and forgets 0.008 (as published 0.086 and 0.013), by gradient steps 0.263 and 0.139; TempLoRA at half the size gains 0.285
    and forgets 0.079. Page: locas_mlp.
    """

    rank: int = 64
    init: Literal["top", "bottom", "random", "activation", "gaussian"] = "activation"
    scale: float = 1.0
    layers: tuple[int, ...] | None = None
    activation: Literal["base", "relu"] = "base"
    eps: float = 1.0
    compress: Compression = "refit"

    gated: ClassVar[bool] = False
    unfit: ClassVar[str] = "gated: LocasGLU fits them"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.activation in ("base", "relu"), f"activation is 'base' or 'relu'; got {self.activation!r}")
        self.check(0 < self.eps <= 1, f"eps is a length above 0, at most 1; got {self.eps}")
        known = ("published", "oriented", "refit")
        self.check(self.compress in known, f"compress is one of {', '.join(known)}; got {self.compress!r}")

    def adapters(self, anatomy: Anatomy) -> Mapping[str, PlainSlotAdapter]:
        """One adapter beside the FFN of each chosen layer.

        Raises:
            UnsupportedError: the base has no plain FFN, or its activation is not known here.
        """
        own = None if self.activation == "base" else self.activation
        phi = self.phi(anatomy, own)
        return {
            site.key: PlainSlotAdapter(anatomy.width, self.rank, phi, own, self.eps, self.compress)
            for site in self.sites(anatomy)
        }

    @property
    def written_by(self) -> str:
        """Slots are written as they come."""
        return "closed"

    @classmethod
    def memory(cls, anatomy: Anatomy, published: bool) -> LocasMLP | None:
        """For plain FFNs, with values that may say more than the published tau allows."""
        if anatomy.ffn is None or anatomy.ffn.gated:
            return None
        return cls(compress="published") if published else cls(scale=SCALE, eps=EPS)

    @torch.no_grad()
    def of_units(
        self, anatomy: Anatomy, units: Mapping[str, Units], like: Mapping[str, Adapter]
    ) -> tuple[LocasMLP, Mapping[str, PlainSlotAdapter]]:
        """Plain units as slots. tau grows where values would be longer than 1, so that no guard cuts them."""
        kind = replace(self, rank=len(next(iter(units.values())).up), init="gaussian")
        made = kind.adapters(anatomy)
        for key, adapter in made.items():
            before, given = like[key], units[key]
            assert isinstance(before, PlainSlotAdapter)
            values = given.values / before.tau.float()
            longest = values.norm(dim=-1).max().clamp(min=1.0)
            adapter.keys.copy_(given.up)
            adapter.values.copy_(values / longest)
            adapter.tau.copy_(before.tau.float() * longest)
        return kind, made
