"""Products of few tokens: the same numbers from either side."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from addenda.core import products


@pytest.mark.parametrize("shape", [(1, 96), (2, 96), (4, 1, 96), (2, 2, 96), (5, 96), (0, 96)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_sides_give_the_same_numbers_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "LARGE", 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(40, 96, generator=generator).to(dtype).requires_grad_()
    ours, theirs = products.product(x, weight), F.linear(x, weight)
    assert ours.shape == theirs.shape
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, theirs)
    wanted = torch.randn(ours.shape, generator=generator).to(dtype)
    for one, other in zip(
        torch.autograd.grad(ours, (x, weight), wanted), torch.autograd.grad(theirs, (x, weight), wanted), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_other_side_is_taken_for_few_tokens_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(products.F, "linear", lambda x, weight: seen.append(len(x)) or x)
    for tokens in range(1, 8):
        products.product(torch.zeros(tokens, 256), torch.zeros(256, 256))
    assert seen == [1, 5, 6, 7]
    products.product(torch.zeros(2, 64), torch.zeros(8, 64))  # a small matrix
    assert seen[-1] == 2
