"""Ternary numbers: the published rounding, its fit, its gradient, and five numbers in a byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from addenda.core.ternary import pack, packed_width, rounded, through, unpack

ROWS = torch.randn(6, 33, generator=torch.Generator().manual_seed(0)).double()


def test_without_rounds_it_is_the_published_rule() -> None:
    signs, scale = rounded(ROWS, 0)
    for row, (sign, size) in enumerate(zip(signs, scale, strict=True)):
        mean = ROWS[row].abs().mean()
        torch.testing.assert_close(size, mean)
        torch.testing.assert_close(sign, (ROWS[row] / mean).round().clamp(-1, 1))


@pytest.mark.parametrize("rounds", [0, 1, 8])
def test_values_are_minus_s_zero_and_s(rounds: int) -> None:
    signs, scale = rounded(ROWS, rounds)
    assert set(signs.unique().tolist()) == {-1.0, 0.0, 1.0}
    now = through(ROWS, rounds)
    torch.testing.assert_close(now, signs * scale[:, None])


def test_each_round_lowers_the_error_or_keeps_it() -> None:
    def error(rounds: int) -> float:
        signs, scale = rounded(ROWS, rounds)
        return float((signs * scale[:, None] - ROWS).square().sum())

    errors = [error(rounds) for rounds in range(9)]
    assert all(b <= a + 1e-12 for a, b in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]
    # of a Gaussian the best three levels leave 19% (Lloyd, Max)
    many = torch.randn(4, 20_000, generator=torch.Generator().manual_seed(1)).double()
    signs, scale = rounded(many)
    assert float((signs * scale[:, None] - many).square().mean()) == pytest.approx(0.19, abs=0.01)


def test_ternary_rows_stay_what_they_are_and_zeros_zero() -> None:
    signs, scale = rounded(ROWS, 0)
    again, sizes = rounded(signs * scale[:, None])
    assert torch.equal(again, signs)
    torch.testing.assert_close(sizes, scale)
    signs, scale = rounded(torch.zeros(2, 5))
    assert not bool(signs.any())
    assert torch.equal(signs * scale[:, None], torch.zeros(2, 5))


def test_the_gradient_looks_through() -> None:
    """The gradient of what is rounded is that of a dense matrix with the rounded values."""
    x = torch.randn(5, 33, generator=torch.Generator().manual_seed(2)).double()
    free = ROWS.clone().requires_grad_()
    (x @ through(free).T).square().sum().backward()
    dense = through(ROWS).requires_grad_()
    (x @ dense.T).square().sum().backward()
    assert free.grad is not None
    assert dense.grad is not None
    assert torch.equal(free.grad, dense.grad)


@pytest.mark.parametrize("width", [1, 4, 5, 6, 64, 333])
def test_five_to_a_byte(width: int) -> None:
    signs = torch.randint(-1, 2, (7, width), generator=torch.Generator().manual_seed(width))
    codes = pack(signs)
    assert codes.dtype == torch.uint8
    assert codes.shape == (7, packed_width(width))
    assert 8 * codes.numel() < 7 * (1.6 * width + 8)
    assert int(codes.max()) < 3**5
    assert torch.equal(unpack(codes, width, torch.float32), signs.float())
    if width == 5:
        assert int(pack(torch.tensor([[1, 0, -1, -1, 0]]))) == 2 + 3 * 1 + 0 + 0 + 81 * 1


def test_any_byte_is_some_signs() -> None:
    found = unpack(torch.arange(256, dtype=torch.uint8)[:, None], 5, torch.float64)
    assert found.shape == (256, 5)
    assert bool((found.abs() <= 1).all())
