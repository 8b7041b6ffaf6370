"""Locas-GLU: a few hidden units beside each gated FFN, cloned from the base's own, that remember a text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.activations import Activation, activation
from addenda.core.contracts import Adapter, AddingAdapter, Kind, Reader, into
from addenda.core.errors import UnsupportedError
from addenda.core.site import Anatomy, Seam, Site
from addenda.core.units import Units

#: tokens of text from which the start is taken at most
START_TOKENS = 2048
#: multiplier of tau: the published one gains two thirds as much (docs/results/locas.md)
SCALE = 16.0
STARTS = ("top", "bottom", "random", "activation", "gaussian")


# -- what both kinds of Locas share ---------------------------------------------------------------------------------


class Slotted(AddingAdapter):
    """A side FFN of slots that start from the base and of which no row is ever longer than 1.

    `constrain` shortens those that a step made longer (norm clipping, after each step). `tau` is a buffer, as the base
    gave it.
    """

    seam = Seam.FFN

    def __init__(self, phi: Activation) -> None:
        super().__init__()
        self.register_buffer("tau", torch.ones(()))
        self.tau: Tensor
        self.phi = phi

    @abstractmethod
    def aim(self, directions: Tensor) -> None:
        """Let the slots read along `directions` [r, D], each of length 1."""

    @abstractmethod
    def clone(self, units: Units, chosen: Tensor) -> None:
        """Let the slots read what the `chosen` [r] of a base's units read, each row cut to length 1."""

    @torch.no_grad()
    def constrain(self) -> None:
        """w / max(|w|, 1) for every row."""
        for rows in self.parameters():
            rows.div_(rows.norm(dim=-1, keepdim=True).clamp(min=1.0))


class Slots(Kind):
    """The options that both kinds of Locas have, and how their slots start."""

    rank: int
    init: Any
    scale: float
    layers: tuple[int, ...] | None

    def __post_init__(self) -> None:
        self.check(self.rank > 0, f"rank must be positive; got {self.rank}")
        self.check(self.init in STARTS, f"init is one of {', '.join(STARTS)}; got {self.init!r}")
        self.check(0 < self.scale < float("inf"), f"scale must be positive; got {self.scale}")
        if self.layers is not None:
            self.check(len(self.layers) > 0, "layers is a list of layer numbers, or None for all; got none")
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    @property
    def starts_from_text(self) -> bool:
        """All starts but `random` and `gaussian` look at what the text does in the base."""
        return self.init in ("top", "bottom", "activation")

    @property
    def quiet(self) -> bool:
        """What it says of its text it would say of any."""
        return True

    def sites(self, anatomy: Anatomy) -> list[Site]:
        """The FFN sites of the chosen layers."""
        shape = anatomy.ffn
        assert shape is not None
        cloned = self.init in ("top", "bottom", "random")
        self.check(
            not cloned or self.rank <= shape.units, f"rank {self.rank} is more than the FFN's {shape.units} units"
        )
        for layer in self.layers or ():
            self.check(0 <= layer < anatomy.layers, f"layers are numbers from 0 to {anatomy.layers - 1}; got {layer}")
        return [site for site in anatomy.at(Seam.FFN) if self.layers is None or site.layer in self.layers]

    @torch.no_grad()
    def prepare(self, adapters: Mapping[str, Adapter], reader: Reader) -> None:
        """Set tau = scale/r * mean_j |W_down[j]|, layer by layer; clone random rows where that is the start."""
        for key, adapter in adapters.items():
            assert isinstance(adapter, Slotted)
            units = reader.units(_layer(key))
            adapter.tau.copy_(self.scale / self.rank * units.values.float().norm(dim=-1).mean())
            if self.init == "random":
                adapter.clone(units, torch.randperm(len(units.values))[: self.rank])

    @torch.no_grad()
    def start(self, adapters: Mapping[str, Adapter], ids: Tensor, reader: Reader) -> None:
        """Take what the slots read from the base's most (or least) active units on the text, or from its activations.

        Raises:
            AddendaError: the text is shorter than what is taken from it.
        """
        ids = ids[:START_TOKENS]
        need = self.rank if self.init == "activation" else 2
        self.check(
            len(ids) >= need, f"a start from '{self.init}' takes at least {need} tokens of text; it has {len(ids)}"
        )
        for key, x in reader.inputs(list(adapters), ids).items():
            adapter = adapters[key]
            assert isinstance(adapter, Slotted)
            if self.init == "activation":
                spread = torch.linspace(0, len(x) - 1, self.rank, device=x.device).round().long()
                adapter.aim(F.normalize(x[spread].float(), dim=-1))
                continue
            units = reader.units(_layer(key))
            adapter.clone(units, self._ranked(x, units, adapter.phi))

    def _ranked(self, x: Tensor, units: Units, phi: Activation) -> Tensor:
        """The `rank` units with the largest (`bottom`: smallest) alpha_j = mean_t |m_tj| on activations x [T, D].

        m_t is what the FFN's value rows are weighted by: phi(W_G a_t) * (W_K a_t) in a gated one, phi(W_K a_t) in a
        plain one.
        """
        total = torch.zeros(len(units.up), device=x.device)
        for part in x.split(256):
            part = part.to(units.up.dtype)
            up = F.linear(part, units.up)
            total += (phi(up) if units.gate is None else phi(F.linear(part, units.gate)) * up).abs().float().sum(0)
        return total.argsort(descending=self.init == "top", stable=True)[: self.rank]


def _layer(key: str) -> int:
    """The layer's number in a site key, `layers.3.ffn`."""
    return int(key.split(".")[1])


# -- for gated FFNs -------------------------------------------------------------------------------------------------


class SlotAdapter(Slotted):
    """delta(x) = tau * V^T( phi(G x) * (K x) ), phi the base's own activation.

    The rows of G, then those of K, are stacked in `up` [2r, D], so that they cost one product; V is `values` [r, D].
    """

    def __init__(self, width: int, rank: int, phi: Activation) -> None:
        super().__init__(phi)
        self.up = nn.Parameter(F.normalize(torch.randn(2 * rank, width), dim=-1))
        self.values = nn.Parameter(torch.zeros(rank, width))

    def delta(self, x: Tensor) -> Tensor:
        """The contribution [..., D]."""
        gate, key = F.linear(into(x, self.up), self.up).chunk(2, dim=-1)
        return (self.phi(gate) * key) @ (self.values * self.tau)

    def aim(self, directions: Tensor) -> None:
        """Keys and gates alike."""
        self.up.copy_(directions.repeat(2, 1))

    def clone(self, units: Units, chosen: Tensor) -> None:
        """Gates from gates, keys from keys."""
        assert units.gate is not None
        self.up.copy_(F.normalize(torch.cat([units.gate[chosen], units.up[chosen]]).float(), dim=-1))

    def fold(self) -> Units:
        """The slots as units of the base's FFN, tau in their values."""
        return Units.stacked(self.up, self.values.float() * self.tau.float())


@dataclass(frozen=True)
class LocasGLU(Slots):
    """A memory of `rank` slots beside each gated FFN, for `addenda.memorize`; `addenda.merge` folds it into the base.

    `init` says where a slot's key and gate come from: `top`, the rows of the base's own FFN that are most active on the
    text (`bottom`: least); `random` rows of it; `activation`, what enters the FFN at some tokens of the text; `gaussian`
    noise. All are cut to length 1, and values start at zero. What the memory adds is scaled by tau, the mean length of the
    base's value rows over `rank`, times `scale`. `layers` are the layers that get a memory (None: all).

    Source: Locas 2026, arXiv:2602.05085, "Locas-GLU".
    """

    rank: int = 64
    init: Literal["top", "bottom", "random", "activation", "gaussian"] = "top"
    scale: float = 1.0
    layers: tuple[int, ...] | None = None

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 4e-3

    @classmethod
    def memory(cls, anatomy: Anatomy, published: bool) -> LocasGLU | None:
        """For gated FFNs, with values that may say more than the published tau allows."""
        if anatomy.ffn is not None and not anatomy.ffn.gated:
            return None
        return cls() if published else cls(scale=SCALE)

    def adapters(self, anatomy: Anatomy) -> Mapping[str, SlotAdapter]:
        """One adapter beside the FFN of each chosen layer.

        Raises:
            UnsupportedError: the base has no gated FFN, or its activation is not known here.
        """
        shape = anatomy.ffn
        if shape is None or not shape.gated:
            raise UnsupportedError(
                f"LocasGLU needs FFNs with gated units (GLU); those of {anatomy.model_type} are "
                + ("no single block of units" if shape is None else "plain")
            )
        phi = activation(shape.activation)
        if phi is None:
            raise UnsupportedError(f"LocasGLU does not know the activation '{shape.activation}' of this base")
        return {site.key: SlotAdapter(anatomy.width, self.rank, phi) for site in self.sites(anatomy)}
