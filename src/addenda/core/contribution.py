"""A contribution: what an adding adapter adds to its site's output, on the tokens that are live, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from addenda.core.modes import readable

# Above this share of live tokens the dense product is cheaper than gathering rows.
SPARSE_BELOW = 0.6


@dataclass
class Contribution:
    """What an adding adapter adds: `delta` [R, T, D], or [n, D] for the n tokens at flat positions `index`.

    `live` [R, T, 1], where given, marks the only tokens of a dense delta that may change.
    """

    delta: Tensor
    index: Tensor | None = None
    live: Tensor | None = None

    def add_to(self, y: Tensor, rows: Tensor | None = None) -> Tensor:
        """`y` [B, T, D] plus the contribution, in y's dtype; tokens that are not live stay bit-equal.

        `rows` [R] are the rows of y that the contribution is for, all different; None for all of them, in order.
        """
        delta, index = self.delta.to(y.dtype), self.index
        if index is not None:
            if rows is not None:
                length = y.shape[1]
                index = rows[index] if length == 1 else rows[index // length] * length + index % length
            return y.reshape(-1, y.shape[-1]).index_add(0, index, delta).view(y.shape)
        if self.live is None:
            return y + delta if rows is None else y.index_add(0, rows, delta)
        part = y if rows is None else y.index_select(0, rows)
        part = torch.where(self.live, part + delta, part)
        return part if rows is None else y.index_copy(0, rows, part)


def is_single(x: Tensor) -> bool:
    """Whether x [R, T, D] is one token that can be looked at, and nobody wants a gradient."""
    return x.numel() == x.shape[-1] and readable(x) and not torch.is_grad_enabled()


def on_live(
    x: Tensor, live: Tensor | None, factor: float | Tensor, compute: Callable[[Tensor], Tensor]
) -> Contribution | None:
    """`compute(x)` times `factor` (a number, [R, 1, 1] or [R, T, 1]), on the tokens where `live` [R, T] is not zero.

    None where none is, unless a training step needs it all the same: without any live token nothing would have a
    gradient, not even zero. Where nothing may be looked at every token is computed, and the live ones are taken.
    """
    if live is None:
        return Contribution(times(compute(x), factor))
    if not readable(live):
        return Contribution(times(compute(x), factor), live=(live != 0).unsqueeze(-1))
    index = live.flatten().nonzero().squeeze(-1)
    if index.numel() == 0 and not torch.is_grad_enabled():
        return None
    if index.numel() == live.numel():
        return Contribution(times(compute(x), factor))
    if index.numel() > SPARSE_BELOW * live.numel():
        return Contribution(times(compute(x), factor), live=(live != 0).unsqueeze(-1))
    if isinstance(factor, Tensor):
        factor = factor.expand(*x.shape[:-1], 1).flatten(0, 1).index_select(0, index)
    return Contribution(times(compute(x.reshape(-1, x.shape[-1]).index_select(0, index)), factor), index=index)


def times(out: Tensor, factor: float | Tensor) -> Tensor:
    """`out` times a number or tensor, in out's dtype."""
    if isinstance(factor, Tensor):
        return (out * factor).to(out.dtype)
    return out if factor == 1.0 else out * factor


def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Both masks; None where there is none."""
    return b if a is None else a if b is None else a & b
