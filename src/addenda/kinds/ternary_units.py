"""Ternary units: hidden units beside each FFN whose weights are -1, 0 or 1 times a scale per unit, five to a byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.contracts import into
from addenda.core.formed import FormedAdapter, FormedKind, UnitsShape
from addenda.core.modes import compiling, own_modes
from addenda.core.site import Seam
from addenda.core.ternary import pack, packed_width, rounded, unpack
from addenda.core.units import Units


class TernaryAdapter(FormedAdapter):
    """h = phi(a_G * (G x)) * (a_K * (K x)) and delta(x) = V^T (a_V * h), or h = phi(a_K * (K x)) in plain units.

    G, K and V are ternary; `reads` holds G's rows, then K's, [2F, ceil(D/5)] bytes, `values` V's [F, ceil(D/5)]; the scales
    a are `read_scale` [2F] and `value_scale` [F]. Gradients reach the scales alone. The signs are unpacked once, until the
    codes change.
    """

    def __init__(self, shape: UnitsShape) -> None:
        super().__init__(shape)
        codes = packed_width(shape.width)
        for name, rows in (("reads", shape.rows), ("values", shape.count)):
            self.register_buffer(name, torch.randint(0, 3**5, (rows, codes), dtype=torch.uint8))
        self.reads: Tensor
        self.values: Tensor
        # two thirds of random signs are not zero: rows of length 1
        self.read_scale = nn.Parameter(torch.full((shape.rows,), (1.5 / shape.width) ** 0.5))
        self.value_scale = nn.Parameter(torch.zeros(shape.count))
        self._unpacked: dict[str, tuple[Tensor, tuple[object, ...], Tensor]] = {}

    def signs(self, name: str) -> Tensor:
        """The signs of `reads` or `values`, [rows, D], in the dtype of the scales."""
        codes, dtype = self._buffers[name], self.read_scale.dtype
        assert codes is not None
        if compiling():
            return unpack(codes, self.shape.width, dtype)
        version = (codes._version, codes.data_ptr(), dtype)
        kept = self._unpacked.get(name)
        if kept is None or kept[0] is not codes or kept[1] != version:
            with torch.no_grad(), own_modes():
                kept = (codes, version, unpack(codes, self.shape.width, dtype))
            self._unpacked[name] = kept
        return kept[2]

    def ungated(self, x: Tensor) -> Tensor:
        """The contribution [..., D]."""
        reads = F.linear(into(x, self.read_scale), self.signs("reads")) * self.read_scale
        return (self.activate(reads) * self.value_scale) @ self.signs("values")

    @torch.no_grad()
    def units(self) -> Units:
        """The units as plain matrices."""
        reads = self.signs("reads").float() * self.read_scale.float()[:, None]
        values = self.signs("values").float() * self.value_scale.float()[:, None]
        if self.shape.gated:
            return Units.stacked(reads, values, self.shape.activation)
        return Units(reads, values, activation=self.shape.activation)

    @torch.no_grad()
    def take(self, units: Units) -> None:
        """Round each row; rows that are ternary already stay what they are."""
        for codes, scale, rows in (
            (self.reads, self.read_scale, units.reads()),
            (self.values, self.value_scale, units.values),
        ):
            signs, sizes = rounded(rows.detach().double())
            codes.copy_(pack(signs))
            scale.copy_(sizes)


@dataclass(frozen=True)
class TernaryUnits(FormedKind):
    """Hidden units with weights of 1.6 bits: what `addenda compress --method ternary` makes of a side FFN.

    `width` units per layer, `gated` (GLU) or plain, activated by `activation` (None: as the base's own are). `layers` are
    the layers that have them (None: all); `token_gate` puts a gate per token before them. Training moves scales and gate;
    the signs stay.

    Source: the ternary experts of MoTE 2025 ("Mixture of Ternary Experts"), from its abstract; packing ours. Differs: units
    beside a frozen FFN in place of experts; a scale per unit in place of one per matrix.
    """

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-3

    def formed(self, shape: UnitsShape) -> TernaryAdapter:
        """Random signs; values scaled by zero."""
        return TernaryAdapter(shape)
