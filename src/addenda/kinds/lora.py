"""LoRA: a low-rank product beside linear layers, with alpha/r scaling and rsLoRA as an option."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from addenda.core.contracts import AddingAdapter, Kind, into
from addenda.core.errors import known
from addenda.core.moments import Moment
from addenda.core.products import product
from addenda.core.site import Anatomy, Seam, Site


class LoRAAdapter(AddingAdapter):
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
    def add_up(self, parts: Sequence[tuple[float, Self]]) -> None:
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
        left, values, right = torch.linalg.svd(vector.float() / self.scale, full_matrices=False)
        rank = min(len(self.a), len(values))
        root = values[:rank].sqrt()
        self.a.zero_()
        self.b.zero_()
        self.a[:rank].copy_(root[:, None] * right[:rank])
        self.b[:, :rank].copy_(left[:, :rank] * root)

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
class LoRA(Kind):
    """Low-rank adaptation of linear layers.

    `targets` are the ends of site keys: names (`q_proj`, `down_proj`), or whole keys (`layers.3.mlp.down_proj`) for some
    layers only; None means all linear layers but the head.
    The scale is alpha/rank, with `rslora` alpha/sqrt(rank).

    Source: Hu et al. 2021, arXiv:2106.09685; rsLoRA: Kalajdzievski 2023, arXiv:2312.03732.
    """

    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    rslora: bool = False

    seam: ClassVar[Seam] = Seam.LINEAR
    default_lr: ClassVar[float] = 1e-3

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

    def joined(self, count: int, anatomy: Anatomy) -> Kind:
        """`count` times the rank, with alpha such that the scale stays."""
        rank = count * self.rank
        return replace(self, rank=rank, alpha=self.scale * (math.sqrt(rank) if self.rslora else rank))

    def adapters(self, anatomy: Anatomy) -> Mapping[str, LoRAAdapter]:
        """One adapter per target linear layer."""
        sites = _targeted(anatomy, self.targets)
        for target in self.targets or ():
            names = {site.key.rsplit(".", 1)[-1] for site in anatomy.at(Seam.LINEAR)}
            self.check(
                bool(_targeted(anatomy, (target,))),
                f"no linear layer is called '{target}'; there are {known(target, names)}",
            )
        return {site.key: LoRAAdapter(site.d_in, site.d_out, self.rank, self.scale) for site in sites}

    @torch.no_grad()
    def of_factors(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[LoRA, Mapping[str, LoRAAdapter]]:
        """A LoRA of the factors' rank, at scale 1; a plain one, whatever subclass this is."""
        rank = len(next(iter(factors.values()))[1])
        made: dict[str, LoRAAdapter] = {}
        for key, (b, a) in factors.items():
            made[key] = LoRAAdapter(a.shape[1], len(b), rank, 1.0)
            made[key].a.copy_(a)
            made[key].b.copy_(b)
        return LoRA(rank, alpha=float(rank), targets=self.targets), made

    @classmethod
    def of_size(cls, share: float, anatomy: Anatomy, **options: Any) -> Self:
        """The rank whose parameters, as many as a LoRA of it has, come nearest to the share."""
        parameters = round(share * anatomy.parameters)
        return cls(cls.rank_for(parameters, anatomy, options.get("targets")), **options)

    @staticmethod
    def rank_for(parameters: int, anatomy: Anatomy, targets: tuple[str, ...] | None = None) -> int:
        """The rank whose parameter count over `targets` comes nearest to `parameters`."""
        per_rank = sum(site.d_in + site.d_out for site in _targeted(anatomy, targets))
        return max(1, round(parameters / per_rank))


def _targeted(anatomy: Anatomy, targets: tuple[str, ...] | None) -> list[Site]:
    """The linear sites whose key ends in one of `targets`, all of them for None."""
    endings = None if targets is None else tuple(f".{target}" for target in targets)
    return [site for site in anatomy.at(Seam.LINEAR) if endings is None or f".{site.key}".endswith(endings)]
