"""Rank-1 second moments: they keep row and column sums, whatever the shape, and come back from their file."""

from __future__ import annotations

import pytest
import torch

from addenda.core.moments import Moment, named, read


@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (3, 4, 2), (6,), ()])
def test_row_and_column_sums_are_kept(shape: tuple[int, ...]) -> None:
    squares = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = Moment.of(squares).full(squares.shape)
    assert full.shape == squares.shape
    if len(shape) < 2:
        assert torch.equal(full, squares)
        return
    one, two = (tensor.reshape(-1, shape[-1]) for tensor in (full, squares))
    torch.testing.assert_close(one.sum(0), two.sum(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(one.sum(1), two.sum(1), rtol=1e-14, atol=0)


def test_moments_of_rank_one_are_exact_and_zero_stays_zero() -> None:
    rows, columns = torch.tensor([1.0, 4.0, 0.0]), torch.tensor([2.0, 3.0])
    torch.testing.assert_close(Moment.of(rows[:, None] * columns).full(torch.Size([3, 2])), rows[:, None] * columns)
    assert not bool(Moment.of(torch.zeros(3, 2)).full(torch.Size([3, 2])).any())


def test_they_come_back_by_the_tensors_they_are_of() -> None:
    moments = {"layers.0.ffn.down": Moment.of(torch.rand(3, 4)), "layers.0.ffn.bias": Moment.of(torch.rand(3))}
    back = read({**named(moments), "steps": torch.tensor(3)})
    assert back.keys() == moments.keys()
    assert back["layers.0.ffn.bias"].columns is None
    assert torch.equal(back["layers.0.ffn.down"].rows, moments["layers.0.ffn.down"].rows)
