"""Hidden units of an FFN: what a base's layers are made of, and what a side FFN is when it is folded into one."""

from __future__ import annotations

from dataclasses import dataclass

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
