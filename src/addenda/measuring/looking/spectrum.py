"""Spectrum: how many directions a module's hidden units use beside those of its host FFN; NerVE's four numbers.

Source: NerVE, ICLR 2026: spectral entropy, participation ratio, early eigenvalue enrichment and the Jensen-Shannon divergence
of the spectra before and after the non-linearity, of covariances over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.activations import Activation, activation
from addenda.core.call import Share
from addenda.core.errors import UnsupportedError
from addenda.core.modes import evaluating
from addenda.core.module import plugged
from addenda.core.plain import Plain
from addenda.core.site import Seam
from addenda.core.units import Units
from addenda.measuring.looking.pieces import documents_of
from addenda.text.texts import texts as open_texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

TOKENS, LENGTH = 8_000, 256


@dataclass(frozen=True)
class Spectrum:
    """Four numbers of a covariance over tokens, all free of scale: two of them need the spectrum before the non-linearity.

    `entropy` -sum p log p of the eigenvalues' shares p, nats, at most log D; `participation` (sum l)^2 / sum l^2, 1 to D;
    `early` 2/D sum_k (S_k - k/D), S_k the share of the k largest, 0 where all are equal, near 1 where one is all; `shift` the
    Jensen-Shannon divergence, nats, from the spectrum before the non-linearity (None where there is none).
    """

    entropy: float
    participation: float
    early: float
    dimensions: int
    shift: float | None = None


@dataclass(frozen=True)
class Health(Plain):
    """One site of a module: spectra of its host's and its own hidden units, and of what it adds (None where it has none)."""

    site: str
    host: Spectrum | None
    module: Spectrum | None
    added: Spectrum | None


def shares_of(covariance: Tensor) -> Tensor:
    """Eigenvalues of a covariance [D, D], largest first, as shares of their sum; all zero where nothing varies."""
    eigenvalues = torch.linalg.eigvalsh(covariance.double()).clamp(min=0).flip(0)
    return eigenvalues / eigenvalues.sum() if float(eigenvalues.sum()) > 0 else eigenvalues


def divergence(p: Tensor, q: Tensor) -> float:
    """The Jensen-Shannon divergence of two spectra of shares [D], nats: symmetric, at most log 2."""
    middle = (p + q) / 2

    def against(shares: Tensor) -> Tensor:
        return torch.where(shares > 0, shares * (shares.clamp(min=1e-300) / middle.clamp(min=1e-300)).log(), 0.0).sum()

    return max(0.0, float((against(p) + against(q)) / 2))


def spectrum_of(covariance: Tensor, before: Tensor | None = None) -> Spectrum:
    """The numbers of a covariance [D, D]; `before` that of what went into the non-linearity."""
    p = shares_of(covariance)
    count = len(p)
    kept = p[p > 0]
    if not len(kept):  # nothing varies: no direction is used
        return Spectrum(0.0, 0.0, 0.0, count, None)
    even = torch.arange(1, count + 1, dtype=torch.float64) / count
    return Spectrum(
        entropy=-float((kept * kept.log()).sum()),
        participation=1.0 / float((p * p).sum()),
        early=2.0 / count * float((p.cumsum(0) - even).sum()),
        dimensions=count,
        shift=None if before is None else divergence(shares_of(before), p),
    )


class _Covariance:
    """A covariance [D, D] over tokens, gathered as they come."""

    def __init__(self) -> None:
        self.count, self.sum, self.products = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Tokens [n, D]."""
        x = x.double()
        self.count += len(x)
        self.sum = self.sum + x.sum(0).cpu()
        self.products = self.products + (x.T @ x).cpu()

    def covariance(self) -> Tensor | None:
        """None where no token came."""
        if not self.count:
            return None
        mean = self.sum / self.count
        return self.products / self.count - torch.outer(mean, mean)


class _Hidden:
    """Covariances before and after the non-linearity of some units."""

    def __init__(self, units: Units, act: Activation) -> None:
        self.units, self.act = units, act
        self.before, self.after = _Covariance(), _Covariance()

    def add(self, x: Tensor) -> None:
        """What entered, [n, D]. Before the non-linearity stand the gates' reads, in a plain FFN the units' own."""
        read = x @ self.units.up.to(x).T
        before = read if self.units.gate is None else x @ self.units.gate.to(x).T
        self.before.add(before)
        self.after.add(self.act(before) if self.units.gate is None else self.act(before) * read)

    def spectrum(self) -> Spectrum | None:
        """None where no token came."""
        after = self.after.covariance()
        return None if after is None else spectrum_of(after, self.before.covariance())


@torch.no_grad()
def spectrum(base: Base, name: str, texts: Any, *, tokens: int = TOKENS) -> list[Health]:
    """The spectra of a module, alone at weight 1, site by site, beside those of the FFNs it stands at.

    A module with many live directions adds some to its host's; one whose participation is near 1 has collapsed to one.
    What a kind without hidden units (LoRA, registers) adds is measured all the same. A gate is part of what is added, not of
    the units.

    Args:
        base: with the module plugged.
        name: of the module.
        texts: whatever `addenda.train` takes as a corpus; cut into documents of 256 tokens.
        tokens: read at most.

    Raises:
        DataError: the text cannot be read, or no document is long enough.
        AddendaError: no such module is plugged, or `tokens` is too small.
    """
    module = plugged(base.modules, name)
    length = min(LENGTH, base.context or LENGTH)
    hosts: dict[str, _Hidden] = {}
    own: dict[str, _Hidden] = {}
    added: dict[str, _Covariance] = {key: _Covariance() for key in module.sites()}
    shape = base.anatomy.ffn
    act = None if shape is None else activation(shape.activation)
    for key in module.sites():
        if module.adapter(key).seam is Seam.FFN and act is not None:
            hosts[key] = _Hidden(base.reader.units(int(key.split(".")[1])), act)
            try:
                units = module.adapter(key).units()
            except UnsupportedError:
                continue
            own[key] = _Hidden(units, activation(units.activation) or act if units.activation else act)

    def observe(share: Share, site: str, **facts: Any) -> None:
        if share.name != name or "contribution" not in facts or "x" not in facts:
            return
        x, contribution = facts["x"].float(), facts["contribution"]
        for hidden in (by_site[site] for by_site in (hosts, own) if site in by_site):
            hidden.add(x.flatten(0, -2))
        if contribution is None:  # every gate is shut
            added[site].add(torch.zeros_like(x.flatten(0, -2)))
        else:
            zero = torch.zeros(*x.shape[:-1], contribution.delta.shape[-1], device=x.device)
            added[site].add(contribution.add_to(zero).flatten(0, -2))

    with base.using({name: 1.0}), evaluating(base.model), base.watching(observer=observe):
        for _, ids in documents_of(base, open_texts(texts), [length], tokens):
            base.model(input_ids=ids, use_cache=False)
    return [
        Health(
            key,
            hosts[key].spectrum() if key in hosts else None,
            own[key].spectrum() if key in own else None,
            None if (covariance := added[key].covariance()) is None else spectrum_of(covariance),
        )
        for key in module.sites()
    ]
