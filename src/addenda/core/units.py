"""Hidden units of an FFN: what a base's layers are made of, and what a side FFN is when it is folded into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Units:
    """Hidden units of an FFN: `up` [F, D] and `gate` [F, D] (None in a plain MLP) read, `values` [F, D] are what each adds.

    `activation` is its name where the units have one of their own, None for the base's.
    """

    up: Tensor
    values: Tensor
    gate: Tensor | None = None
    activation: str | None = None

    @classmethod
    def stacked(cls, up: Tensor, values: Tensor, activation: str | None = None) -> Units:
        """Gated units in float32, of gates and what reads stacked in `up` [2F, D]."""
        gate, reads = up.detach().float().chunk(2)
        return cls(reads, values.detach().float(), gate, activation)

    def hidden(self, x: Tensor, phi: Callable[[Tensor], Tensor]) -> Tensor:
        """What each unit weighs its value with [..., F], for inputs [..., D]; phi is the activation."""
        read = F.linear(x, self.up)
        return phi(read) if self.gate is None else phi(F.linear(x, self.gate)) * read

    def output(self, x: Tensor, phi: Callable[[Tensor], Tensor]) -> Tensor:
        """What the units add [..., D], for inputs [..., D]; phi is the activation."""
        return self.hidden(x, phi) @ self.values

    def reads(self) -> Tensor:
        """What reads, gates first: [2F, D], or [F, D] where there are none."""
        return self.up if self.gate is None else torch.cat([self.gate, self.up])

    def padded(self, count: int) -> Units:
        """`count` units, those beyond the own being zero: they add nothing."""

        def longer(rows: Tensor) -> Tensor:
            return F.pad(rows, (0, 0, 0, count - len(rows)))

        gate = None if self.gate is None else longer(self.gate)
        return Units(longer(self.up), longer(self.values), gate, self.activation)


class FewerUnits(Protocol):
    """A compressor of plain units, as a kind asks for it that compresses them while it is written."""

    def fewer(
        self, keys: Tensor, values: Tensor, phi: Callable[[Tensor], Tensor], keep: int, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [n, D], n at most `keep`, for `keys` and `values` [r, D]; `text` [T, D] are activations."""
        ...
