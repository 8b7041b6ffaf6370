"""Low rank: Eckart and Young's identity, in the plain metric and in that of a text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addenda.core.low_rank import RIDGE, factored, rank_for, strengths


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
def test_the_error_is_the_singular_values_left_out(shape: tuple[int, int], rank: int) -> None:
    matrix = drawn(*shape)
    left, right = factored(matrix, rank)
    assert (left.shape, right.shape) == ((shape[0], rank), (rank, shape[1]))
    error = (matrix - left.double() @ right.double()).square().sum()
    torch.testing.assert_close(error, strengths(matrix)[rank:].square().sum(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))


def test_beyond_its_own_rank_factors_are_zero() -> None:
    matrix = drawn(8, 2) @ drawn(2, 5)
    left, right = factored(matrix, 7)
    torch.testing.assert_close((left @ right).double(), matrix, atol=1e-5, rtol=1e-5)
    assert not bool(left[:, 5:].any())


def test_in_a_texts_metric_no_matrix_of_the_rank_is_nearer() -> None:
    """|(W - B A) L|^2, L L^T the inputs' mean square with its ridge, is the singular values of W L left out."""
    matrix, x = drawn(9, 6), drawn(200, 6, seed=1) * torch.tensor([9.0, 4, 2, 1, 0.3, 0.1])
    left, right = factored(matrix, 2, x)
    miss = matrix - left.double() @ right.double()
    square = x.T @ x / len(x)
    square += RIDGE * square.diagonal().mean() * torch.eye(6)
    error = (miss @ square @ miss.T).trace()
    torch.testing.assert_close(error, strengths(matrix, x)[2:].square().sum(), rtol=1e-4, atol=1e-8)
    plain = matrix - (factored(matrix, 2)[0] @ factored(matrix, 2)[1]).double()
    assert float((miss @ x.T).norm()) < 0.8 * float((plain @ x.T).norm())


def test_one_rank_keeps_the_energy_of_all() -> None:
    spectra = [torch.tensor([3.0, 1.0, 0.0]), torch.tensor([2.0, 1.0])]
    assert rank_for(13 / 15, spectra) == 1
    assert rank_for(13 / 15 + 1e-6, spectra) == 2
    assert rank_for(1.0, spectra) <= 3
    assert rank_for(0.9, [torch.zeros(4)]) in range(1, 5)
