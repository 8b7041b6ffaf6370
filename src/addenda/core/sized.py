"""Kinds of side FFNs whose size is a share of the base or a number of hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from addenda.core.contracts import Kind
from addenda.core.site import Anatomy


@dataclass(frozen=True)
class SizedKind(Kind):
    """A kind that takes `extra`, a share of the base's parameters (default 0.2), or `width`, hidden units per layer."""

    extra: float | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if self.extra is None and self.width is None:
            object.__setattr__(self, "extra", 0.2)
        self.check(self.extra is None or self.width is None, "give extra or width, not both")
        self.check(
            self.extra is None or 0 < self.extra <= 10, f"extra is a share of the base, e.g. 0.2; got {self.extra}"
        )
        self.check(self.width is None or self.width > 0, f"width must be positive; got {self.width}")

    def hidden(self, anatomy: Anatomy, per_unit: float, multiple: int = 8) -> int:
        """Hidden units per layer, each of which costs `per_unit` parameters; of a share the nearest `multiple`."""
        if self.width is not None:
            return self.width
        assert self.extra is not None
        units = self.extra * anatomy.parameters / (len(anatomy.at(self.seam)) * per_unit)
        return max(multiple, round(units / multiple) * multiple)


def wider(kind: SizedKind, count: int, anatomy: Anatomy) -> SizedKind:
    """`count` times as many hidden units of a gated FFN: those of each module side by side."""
    return replace(kind, extra=None, width=count * kind.hidden(anatomy, 3 * anatomy.width))


@torch.no_grad()
def stack_units(up: Tensor, down: Tensor, parts: Sequence[tuple[float, Tensor, Tensor]]) -> None:
    """Fill `up` [2F, D] (gates over what reads) and `down` [D, F] with the units of (weight, up, down), side by side."""
    halves = [part.chunk(2) for _, part, _ in parts]
    up.copy_(torch.cat([half[at] for at in (0, 1) for half in halves]))
    down.copy_(torch.cat([weight * part.float() for weight, _, part in parts], 1))
