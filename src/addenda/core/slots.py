"""Slots: side FFNs that start from the base's own units, of which no row is ever longer than 1; what Locas's kinds share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.activations import Activation, activation
from addenda.core.contracts import Adapter, AddingAdapter, Kind, Reader
from addenda.core.errors import UnsupportedError
from addenda.core.site import Anatomy, Seam, Site
from addenda.core.units import Units

#: tokens of text from which the start is taken at most
START_TOKENS = 2048
#: multiplier of tau: the published one gains two thirds as much (docs/results/locas.md)
SCALE = 16.0
STARTS = ("top", "bottom", "random", "activation", "gaussian")


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
            rows.div_(_lengths(rows).clamp(min=1.0))


#: what entered a site [B, T, D], and a zero [B, T, D] in what left it, whose gradient is that of the output
Tap = tuple[Tensor, Tensor]


class WrittenSlots(Slotted):
    """Slots that can be written one by one, and watched while they are."""

    #: length of a value that is written, over all layers
    eps: float

    @abstractmethod
    def tapped(self) -> AbstractContextManager[list[Tap]]:
        """For forwards of a block that want a gradient: their taps."""

    @abstractmethod
    def write(self, keys: Tensor, values: Tensor, text: Tensor | None = None) -> None:
        """Write new slots [n, D]; where none is free, room is made by what `text` [T, D] shows, activations that enter here."""


class Slots(Kind):
    """The options that both kinds of Locas have, and how their slots start."""

    rank: int
    init: Any
    scale: float
    layers: tuple[int, ...] | None

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 4e-3
    #: whether it stands beside gated FFNs, or plain ones; and in words what those are that it does not fit
    gated: ClassVar[bool]
    unfit: ClassVar[str]

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

    def phi(self, anatomy: Anatomy, own: str | None = None) -> Activation:
        """The activation of the slots: their own by name, or the base's.

        Raises:
            UnsupportedError: the base has no FFN of units of this sort, or the activation is not known here.
        """
        shape, called = anatomy.ffn, type(self).__name__
        if shape is None or shape.gated != self.gated:
            wanted = "FFNs with gated units (GLU)" if self.gated else "plain FFNs"
            found = "no single block of units" if shape is None else self.unfit
            raise UnsupportedError(f"{called} needs {wanted}; those of {anatomy.model_type} are {found}")
        phi = activation(own or shape.activation)
        if phi is None:
            raise UnsupportedError(f"{called} does not know the activation '{shape.activation}' of this base")
        return phi

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
            adapter.tau.copy_(self.scale / self.rank * _lengths(units.values.float()).mean())
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
        for at in range(0, len(x), 256):
            part = x[at : at + 256].to(units.up.dtype)
            up = F.linear(part, units.up)
            total += (phi(up) if units.gate is None else phi(F.linear(part, units.gate)) * up).abs().float().sum(0)
        return total.argsort(descending=self.init == "top", stable=True)[: self.rank]


def _lengths(rows: Tensor) -> Tensor:
    """The length of each row [r, 1] of a matrix [r, D]."""
    untyped: Any = rows
    return untyped.norm(dim=-1, keepdim=True)


def _layer(key: str) -> int:
    """The layer's number in a site key, `layers.3.ffn`."""
    return int(key.split(".")[1])
