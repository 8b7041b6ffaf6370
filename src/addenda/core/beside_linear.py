"""Low-rank products beside linear layers: what LoRA and its relatives share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from addenda.core.contracts import AddingAdapter, Kind, into
from addenda.core.errors import known
from addenda.core.low_rank import factored
from addenda.core.moments import Moment
from addenda.core.products import product
from addenda.core.site import Anatomy, Seam, Site


class ProductAdapter(AddingAdapter):
    """delta(x) = scale * B A x; A [r, D_in] uniform as Kaiming's with a = sqrt(5), B [D_out, r] zero."""

    seam = Seam.LINEAR
    vanishes = True

    def __init__(self, d_in: int, d_out: int, rank: int, scale: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, d_in))
        self.b = nn.Parameter(torch.zeros(d_out, rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def delta(self, x: Tensor) -> Tensor:
        """The contribution [..., D_out]."""
        return product(product(into(x, self.a), self.a), self.b) * self.scale

    def fold(self) -> Tensor:
        """scale * B A, [D_out, D_in]."""
        return self.b.float() @ self.a.float() * self.scale

    def factors(self) -> tuple[Tensor, Tensor]:
        """scale * B and A."""
        return self.b.detach().float() * self.scale, self.a.detach().float()

    @torch.no_grad()
    def add_up(self, parts: Sequence[tuple[float, Any]]) -> None:
        """All ranks side by side, weights in B: the sum of the products, and not the product of sums of A and of B."""
        self.a.copy_(torch.cat([part.a.float() for _, part in parts]))
        self.b.copy_(torch.cat([weight * part.b.float() for weight, part in parts], 1))

    @torch.no_grad()
    def task_vector(self) -> Tensor:
        """scale * B A, [D_out, D_in]."""
        return self.fold()

    @torch.no_grad()
    def set_task_vector(self, vector: Tensor) -> None:
        """The nearest product of this rank, by singular values, which A and B share alike."""
        b, a = factored(vector.float() / self.scale, len(self.a))
        self.b.copy_(b)
        self.a.copy_(a)

    @torch.no_grad()
    def task_moments(self, moments: Mapping[str, Moment]) -> Tensor:
        """v of scale * B A, [D_out, D_in], from the rows of B's and the columns of A's.

        Let a gradient G of the product have independent entries of variance r_i c_j. Then v of B = s G A^T has row means in
        proportion to r, v of s B^T G column means in proportion to c; A's own size makes up for what is between them. Ours.
        """
        rows, columns = moments["b"].rows, moments["a"].columns
        assert columns is not None
        seen = self.scale**2 * (self.a.float().square() @ columns.to(self.a.device)).mean()
        rows = rows.to(self.a.device) / torch.where(seen > 0, seen, 1.0)
        return rows[:, None] * columns.to(self.a.device)


@dataclass(frozen=True)
class ProductKind(Kind):
    """The options that kinds of low-rank products share, and what follows from them."""

    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    rslora: bool = False

    seam: ClassVar[Seam] = Seam.LINEAR
    peft_names: ClassVar[Mapping[str, str]] = {"a": "lora_A", "b": "lora_B"}

    def __post_init__(self) -> None:
        self.check(self.rank > 0, f"rank must be positive; got {self.rank}")
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(2 * self.rank))
        if self.targets is not None:
            self.check(
                not isinstance(self.targets, str), f"targets is a list of names; got the string {self.targets!r}"
            )
            object.__setattr__(self, "targets", tuple(self.targets))

    @property
    def scale(self) -> float:
        """alpha/r, or alpha/sqrt(r)."""
        assert self.alpha is not None
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def to_peft(self) -> dict[str, Any]:
        """PEFT's LoRA, of this rank and scale."""
        assert self.alpha is not None
        alpha = int(self.alpha) if self.alpha == int(self.alpha) else self.alpha
        return {"peft_type": "LORA", "r": self.rank, "lora_alpha": alpha, "use_rslora": self.rslora}

    def adapters(self, anatomy: Anatomy) -> Mapping[str, ProductAdapter]:
        """One adapter per target linear layer."""
        sites = targeted(anatomy, self.targets)
        for target in self.targets or ():
            names = {site.key.rsplit(".", 1)[-1] for site in anatomy.at(Seam.LINEAR)}
            self.check(
                bool(targeted(anatomy, (target,))),
                f"no linear layer is called '{target}'; there are {known(target, names)}",
            )
        return {site.key: ProductAdapter(site.d_in, site.d_out, self.rank, self.scale) for site in sites}


def targeted(anatomy: Anatomy, targets: tuple[str, ...] | None) -> list[Site]:
    """The linear sites whose key ends in one of `targets`, all of them for None."""
    endings = None if targets is None else tuple(f".{target}" for target in targets)
    return [site for site in anatomy.at(Seam.LINEAR) if endings is None or f".{site.key}".endswith(endings)]
