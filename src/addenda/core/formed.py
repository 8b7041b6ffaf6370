"""Hidden units beside an FFN that are kept in a form of their own, smaller than their matrices: packed, or factored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from addenda.core.activations import Activation, activation
from addenda.core.contracts import Adapter, GatedAdapter, Kind, into
from addenda.core.errors import UnsupportedError
from addenda.core.site import Anatomy, Seam
from addenda.core.units import Units


@dataclass(frozen=True)
class UnitsShape:
    """What units are like, whatever form they are kept in: `count` of them in a base `width` wide, gated (GLU) or plain.

    `activation` is its name where they have one of their own, None for the base's; `token_gate` says whether a gate per token
    stands before them.
    """

    width: int
    count: int
    gated: bool
    phi: Activation
    activation: str | None
    token_gate: bool

    @property
    def rows(self) -> int:
        """Rows that read: two a unit where there are gates."""
        return self.count * (2 if self.gated else 1)


class FormedAdapter(GatedAdapter):
    """delta(x) = g(x) * sum_j h_j(x) v_j: units in some form, behind g(x) = relu(w . x - threshold) or nothing.

    A subclass implements `ungated`, `units` and `take`. w is `router` [D].
    """

    seam = Seam.FFN
    vanishes = True

    def __init__(self, shape: UnitsShape) -> None:
        super().__init__()
        self.shape = shape
        self.router = nn.Parameter(torch.randn(shape.width) * shape.width**-0.5) if shape.token_gate else None
        self.register_buffer("threshold", torch.zeros(()) if shape.token_gate else None)
        self.threshold: Tensor | None

    def score(self, x: Tensor) -> Tensor | None:
        """w . x [...]."""
        return None if self.router is None else into(x, self.router) @ self.router

    def gate_row(self) -> tuple[Tensor, Tensor] | None:
        """w and the threshold."""
        if self.router is None or self.threshold is None:
            return None
        return self.router.detach(), self.threshold

    def fold(self) -> Units | Tensor:
        """The units; refused where a gate per token stands before them."""
        return self.units() if self.threshold is None else super().fold()

    @abstractmethod
    def units(self) -> Units:
        """The units as plain matrices, float32."""

    @abstractmethod
    def take(self, units: Units) -> None:
        """Become these units, as nearly as the form can."""

    def activate(self, reads: Tensor) -> Tensor:
        """What units weigh their values with [..., F], from what their rows read: gates first [..., 2F], or [..., F]."""
        if not self.shape.gated:
            return self.shape.phi(reads)
        gate, up = reads.chunk(2, dim=-1)
        return self.shape.phi(gate) * up


@dataclass(frozen=True)
class FormedKind(Kind):
    """`width` units per layer, `gated` (GLU) or plain, activated by `activation` (None: as the base's own are).

    `layers` are the layers that have them (None: all); `token_gate` puts a gate per token before them.
    """

    width: int = 64
    gated: bool = True
    activation: str | None = "silu"
    layers: tuple[int, ...] | None = None
    token_gate: bool = False

    def __post_init__(self) -> None:
        self.check(self.width > 0, f"width must be positive; got {self.width}")
        named = self.activation is None or activation(self.activation) is not None
        self.check(named, f"the activation {self.activation!r} is not known here")
        if self.layers is not None:
            self.check(len(self.layers) > 0, "layers is a list of layer numbers, or None for all; got none")
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    @property
    def default_local(self) -> float:
        """1.0 for token gates, as of other kinds with such."""
        return 1.0 if self.token_gate else 0.0

    @property
    def gates_itself(self) -> bool:
        """With `token_gate`."""
        return self.token_gate

    @abstractmethod
    def formed(self, shape: UnitsShape) -> FormedAdapter:
        """A fresh adapter of units of that shape, which adds nothing."""

    def adapters(self, anatomy: Anatomy) -> Mapping[str, FormedAdapter]:
        """One adapter beside the FFN of each chosen layer.

        Raises:
            UnsupportedError: the base's own activation is asked for, and is not known here.
        """
        for layer in self.layers or ():
            self.check(0 <= layer < anatomy.layers, f"layers are numbers from 0 to {anatomy.layers - 1}; got {layer}")
        own = self.activation or (anatomy.ffn.activation if anatomy.ffn is not None else "")
        phi = activation(own)
        if phi is None:
            raise UnsupportedError(f"{type(self).__name__} does not know the activation '{own}' of this base")
        shape = UnitsShape(anatomy.width, self.width, self.gated, phi, self.activation, self.token_gate)
        sites = [site for site in anatomy.at(Seam.FFN) if self.layers is None or site.layer in self.layers]
        return {site.key: self.formed(shape) for site in sites}

    @torch.no_grad()
    def of_units(
        self, anatomy: Anatomy, units: Mapping[str, Units], like: Mapping[str, Adapter]
    ) -> tuple[Self, Mapping[str, FormedAdapter]]:
        """These units in this form; a gate per token is taken over as it is."""
        rows, first = {key: like[key].gate_row() for key in units}, next(iter(units.values()))
        there = {site.key: site.layer for site in anatomy.at(Seam.FFN)}
        kind = replace(
            self,
            width=len(first.up),
            gated=first.gate is not None,
            activation=first.activation,
            layers=None if there.keys() == units.keys() else tuple(there[key] for key in units),
            token_gate=any(row is not None for row in rows.values()),
        )
        made = kind.adapters(anatomy)
        for key, adapter in made.items():
            adapter.take(units[key])
            if (row := rows[key]) is not None:
                assert adapter.router is not None
                assert adapter.threshold is not None
                adapter.router.copy_(row[0])
                adapter.threshold.copy_(row[1])
        return kind, made
