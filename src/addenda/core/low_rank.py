"""Low rank: the nearest product of two thin matrices, in the plain metric or in that of the inputs of a text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

#: added to the inputs' covariance, in shares of its mean diagonal: what the text never shows is not thrown away for nothing
RIDGE = 1e-3

#: singular values below this share of the largest are zero
NOTHING = 1e-8

_linalg: Any = torch.linalg  # it has no types


def factored(matrix: Tensor, rank: int, inputs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """B [n, rank] and A [rank, m] whose product is nearest to a matrix W [n, m] (Eckart and Young 1936); float32.

    With `inputs` X [T, m] the nearest in what it gives for them: least |(W - B A) X^T|, with a ridge. Both factors take the
    square root of the singular values; beyond the matrix's own rank they are zero.

    Singular vectors are the eigenvectors of the smaller Gram matrix, in float64: a fraction of the work of a whole SVD, and
    what it cannot tell from zero lies far below float32.
    """
    root = None if inputs is None else _root(inputs)
    whole = matrix.double() if root is None else matrix.double() @ root
    wide = whole.shape[1] > len(whole)
    kept = min(rank, *whole.shape)
    found: tuple[Tensor, Tensor] = _linalg.eigh(whole @ whole.T if wide else whole.T @ whole)
    values, vectors = found[0][-kept:].flip(0).clamp(min=0.0).sqrt(), found[1][:, -kept:].flip(1)
    values = torch.where(values > NOTHING * values[:1], values, 0.0)
    sizes, inverse = values.sqrt(), torch.where(values > 0, values, 1.0).reciprocal()
    u = vectors if wide else whole @ vectors * inverse
    low = (inverse[:, None] * (vectors.T @ whole)) if wide else vectors.T
    left = matrix.new_zeros(len(matrix), rank, dtype=torch.float32)
    right = matrix.new_zeros(rank, matrix.shape[1], dtype=torch.float32)
    if root is not None:  # back from the metric of the inputs: solve A root = Vh
        solved: Tensor = _linalg.solve_triangular(root, low, upper=False, left=False)
        low = solved
    left[:, :kept] = (u * sizes).float()
    right[:kept] = (sizes[:, None] * low).float()
    return left, right


def strengths(matrix: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Singular values, largest first, of a matrix [n, m] in the plain metric or in that of inputs [T, m]; float64."""
    whole = matrix.double() if inputs is None else matrix.double() @ _root(inputs)
    values: Tensor = _linalg.svdvals(whole)
    return values


def rank_for(energy: float, spectra: Iterable[Tensor]) -> int:
    """The least rank, one for all, that keeps a share of the sum of squares of all singular values."""
    squares = [values.square() for values in spectra]
    longest = max(map(len, squares))
    by_rank = sum(torch.nn.functional.pad(each, (0, longest - len(each))).cpu() for each in squares)
    assert isinstance(by_rank, Tensor)
    kept = by_rank.cumsum(0) / by_rank.sum().clamp(min=1e-300)
    return min(longest, int((kept < energy).sum()) + 1)


def _root(inputs: Tensor) -> Tensor:
    """Lower L [m, m] with L L^T the inputs' mean square, and a ridge; float64."""
    x = inputs.double()
    square = x.T @ x / len(x)
    ridge = RIDGE * square.diagonal().mean().clamp(min=1e-12)
    root: Tensor = _linalg.cholesky(square + ridge * torch.eye(len(square), dtype=square.dtype, device=square.device))
    return root
