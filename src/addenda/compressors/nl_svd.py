"""NL-SVD: plain hidden units, such as the slots of a memory, become fewer that compute nearly the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.compressors.compressor import Compressed, Compressor, Whole
from addenda.core.activations import Activation
from addenda.core.errors import UnsupportedError
from addenda.core.fewer_units import How, nl_svd
from addenda.core.units import Units

#: tokens that the refit reads
TOKENS = 2048


@dataclass(frozen=True)
class NLSVD(Compressor):
    """Fewer slots for a memory of plain hidden units (LocasMLP): half of them, or as many as you say.

    `keep` is their number (None: half of those at a site). `how` is `published`, `oriented` (each new key turned to the side
    on which the slots lie) or `refit` (values by least squares on calibration text, keys on both sides). The kind stays what
    it was. `memorize` uses the same closed form when a memory is full.

    Source: Locas 2026, arXiv:2602.05085, "NL-SVD". Differs: `oriented` and `refit` are ours.

    Measured: memories of LocasMLP, 6 cases: written with `refit` they gain 0.050 [0.032, 0.068] nats per token (64 slots) and
    0.067 [0.031, 0.102] (256) more than as published, and forget no more. Page: locas_mlp.
    """

    keep: int | None = None
    how: How = "refit"

    name: ClassVar[str] = "nl_svd"

    def __post_init__(self) -> None:
        self.check(self.keep is None or self.keep > 0, f"keep is a number of slots; got {self.keep}")

    @property
    def reads(self) -> int:
        """What it refits on."""
        return TOKENS if self.how == "refit" else 0

    def fewer(
        self, keys: Tensor, values: Tensor, phi: Activation, keep: int, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [n, D], n at most `keep`, for `keys` and `values` [r, D]; see `nl_svd`."""
        return nl_svd(keys, values, phi, keep, self.how, text)

    def compress(self, whole: Whole) -> Compressed:
        """A module of its own kind with fewer units, as many at each site."""
        units = whole.units()
        made: dict[str, Units] = {}
        for key, each in units.items():
            if each.gate is not None:
                raise UnsupportedError(
                    "nl_svd is for plain units (LocasMLP), and those of this module are gated: take ternary or svd"
                )
            used = each.values.norm(dim=-1) > 0
            keys, values = each.up[used], each.values[used]
            keep = max(1, len(keys) // 2) if self.keep is None else self.keep
            if len(keys) > keep:
                text = whole.seen.get(key)
                if text is not None:  # and where the keys were once, at the length that activations have here
                    text = torch.cat([text, F.normalize(keys, dim=-1) * text.norm(dim=-1).mean()])
                keys, values = self.fewer(keys, values, whole.phi(each), keep, text)
            made[key] = Units(keys, values, activation=each.activation)
            whole.tick()
        most = max(1, *(len(each.up) for each in made.values()))
        return whole.kind.of_units(
            whole.anatomy, {key: each.padded(most) for key, each in made.items()}, whole.adapters
        )
