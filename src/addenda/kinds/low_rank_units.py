"""Low-rank units: hidden units beside each FFN whose matrices are products of two, computed without building those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from addenda.core.contracts import into
from addenda.core.formed import FormedAdapter, FormedKind, UnitsShape
from addenda.core.low_rank import factored
from addenda.core.products import product
from addenda.core.site import Seam
from addenda.core.units import Units

#: hidden units computed at a time: what a layer holds of them is no more than tokens times this
TILE = 512


class LowRankAdapter(FormedAdapter):
    """Units whose rows that read are `read_out` [2F, r] times `read_in` [r, D], gates first ([F, r] in plain ones).

    Values [D, F] are `value_out` [D, r] times `value_in` [r, F]. Tokens go to rank space [..., r] once; units are expanded,
    activated and contracted with the next factor tile by tile.
    """

    def __init__(self, shape: UnitsShape, rank: int) -> None:
        super().__init__(shape)
        self.read_in = nn.Parameter(torch.randn(rank, shape.width) * shape.width**-0.5)
        self.read_out = nn.Parameter(torch.randn(shape.rows, rank) * rank**-0.5)
        self.value_in = nn.Parameter(torch.randn(rank, shape.count) * shape.count**-0.5)
        self.value_out = nn.Parameter(torch.zeros(shape.width, rank))

    def ungated(self, x: Tensor) -> Tensor:
        """The contribution [..., D]."""
        return self.tiled(x, TILE)

    def tiled(self, x: Tensor, tile: int) -> Tensor:
        """The contribution [..., D], `tile` hidden units at a time."""
        low = product(into(x, self.read_in), self.read_in)
        parts = [part.split(tile) for part in self.read_out.chunk(2 if self.shape.gated else 1)]
        total: Tensor | None = None
        for *reads, values in zip(*parts, self.value_in.split(tile, dim=1), strict=True):
            hidden = self.activate(torch.cat([product(low, rows) for rows in reads], dim=-1))
            added = product(hidden, values)
            total = added if total is None else total + added
        assert total is not None
        return product(total, self.value_out)

    @torch.no_grad()
    def units(self) -> Units:
        """The units as plain matrices."""
        reads = self.read_out.float() @ self.read_in.float()
        values = (self.value_out.float() @ self.value_in.float()).T
        if self.shape.gated:
            return Units.stacked(reads, values, self.shape.activation)
        return Units(reads, values, activation=self.shape.activation)

    @torch.no_grad()
    def take(self, units: Units) -> None:
        """The nearest matrices of this rank (Eckart and Young), each as two factors of like size."""
        rank = len(self.read_in)
        for out, into_, matrix in (
            (self.read_out, self.read_in, units.reads()),
            (self.value_out, self.value_in, units.values.T),
        ):
            left, right = factored(matrix.detach(), rank)
            out.copy_(left)
            into_.copy_(right)


@dataclass(frozen=True)
class LowRankUnits(FormedKind):
    """Hidden units with low-rank matrices: what `addenda compress --method svd` makes of a side FFN.

    `width` units per layer whose matrices have rank `rank`, `gated` (GLU) or plain, activated by `activation` (None: as the
    base's own are). `layers` are the layers that have them (None: all); `token_gate` puts a gate per token before them.

    Source: FlashSVD 2025, the low-rank FFN that is computed by tiles of hidden units. Differs: in torch's own operations, on
    any device; gates and what reads share one factor.
    """

    rank: int = 8

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0 < self.rank <= self.width, f"rank is at least 1 and at most width, {self.width}; got {self.rank}")

    def formed(self, shape: UnitsShape) -> LowRankAdapter:
        """Random factors; the last is zero."""
        return LowRankAdapter(shape, self.rank)
