"""Fewer units that compute nearly what many do: the closed form of plain hidden units, written and compressed alike."""

# torch leaves some of its functions untyped
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.activations import Activation

#: eigenvalues below this share of the largest are dropped
SMALLEST = 1e-6
#: ridge of the least-squares refit, relative to the mean square of a term
RIDGE = 1e-4

How = Literal["published", "oriented", "refit"]


def nl_svd(
    keys: Tensor, values: Tensor, phi: Activation, keep: int, how: How = "refit", text: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fewer slots that compute nearly what `keys` and `values` [r, D] do: NL-SVD, as published or corrected.

    With s_i = |K_i| |V_i|, the eigenvectors p_j of sum_i s_i^2 k_i k_i^T (k_i = K_i/|K_i|) to the `keep` largest
    eigenvalues are the new keys, and f(p_j) = V^T phi(K p_j) the new values. Source: Locas 2026, arXiv:2602.05085.

    That is exact on each positive ray c p_j alone, for relu features are not additive, and an eigenvector has no sign.
    `oriented` turns each p_j to the side on which the slots lie (ours). `refit` also takes its negative where slots lie
    on both sides, and then finds the values by least squares on activations `text` [T, D] (ours).

    Returns:
        Keys [n, D] of length 1 and values [n, D], n at most `keep`; in the dtype of `keys`.
    """
    k, v = keys.double(), values.double()
    strength = k.norm(dim=-1) * v.norm(dim=-1)
    weighted = F.normalize(k, dim=-1) * strength[:, None]
    svd = torch.linalg.svd(weighted, full_matrices=False)
    large = SMALLEST * svd.S[:1] ** 2 < svd.S**2
    probes = svd.Vh[large][:keep]
    if how != "published":
        along = F.normalize(k, dim=-1) @ probes.T
        towards, away = (
            (strength[:, None] * along.clamp(min=0)).sum(0),
            (strength[:, None] * (-along).clamp(min=0)).sum(0),
        )
        probes = probes * torch.where(towards >= away, 1.0, -1.0)[:, None]

    def f(x: Tensor) -> Tensor:
        return phi(x @ k.T) @ v

    if how == "refit" and text is not None:
        text = text.double()
        both = torch.cat([probes, -probes])
        drive = phi(text @ both.T).norm(dim=0) * torch.cat([svd.S[large][:keep]] * 2)
        probes = both[drive.argsort(descending=True, stable=True)[:keep].sort().values]
        terms = phi(text @ probes.T)
        normal = terms.T @ terms
        ridge = (
            RIDGE
            * normal.diagonal().mean().clamp(min=1e-12)
            * torch.eye(len(normal), dtype=normal.dtype, device=normal.device)
        )
        fitted = torch.linalg.solve(normal + ridge, terms.T @ f(text))
        return probes.to(keys.dtype), fitted.to(values.dtype)
    return probes.to(keys.dtype), f(probes).to(values.dtype)
