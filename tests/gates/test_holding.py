"""The document gate's sums, held or not, against the same sums taken token by token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addenda.gates.document import page


def slow(step: Tensor, cap: float, before: float, mask: Tensor, starts: Tensor, hold: float | None) -> Tensor:
    """One row [T], token by token."""
    sums, now = [], before
    for at in range(len(step)):
        if bool(starts[at]):
            now = 0.0
        if bool(mask[at]):
            now = min(cap, max(0.0, now) + float(step[at]))
            if hold is not None and float(step[at]) > 0 and now > hold:
                now = cap
        sums.append(now)
    return torch.tensor(sums)


@pytest.mark.parametrize("hold", [None, 7.0, 0.5])
@pytest.mark.parametrize("length", [1, 2, 37, 128])
def test_all_at_once_is_token_by_token(hold: float | None, length: int) -> None:
    draw = torch.Generator().manual_seed(length)
    rows = 64
    step = torch.randn(rows, length, generator=draw) * 3 - 0.4
    mask = torch.rand(rows, length, generator=draw) > 0.15
    starts = torch.rand(rows, length, generator=draw) < 0.08
    before = torch.rand(rows, generator=draw) * 27
    limit = None if hold is None else torch.tensor(hold)
    found = page(step, torch.tensor(27.0), before, mask, starts, limit)
    wanted = torch.stack(
        [slow(step[row], 27.0, float(before[row]), mask[row], starts[row], hold) for row in range(rows)]
    )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
    if hold == 7.0 and length > 30:
        open_, plain = found > hold, page(step, torch.tensor(27.0), before, mask, starts) > hold
        assert bool((open_ | ~plain).all()), "wherever it was open it is, held"
        assert float(open_.float().mean()) > float(plain.float().mean()) + 0.02


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_held_sums_go_on_from_a_state(cut: int) -> None:
    draw = torch.Generator().manual_seed(3)
    step, cap, hold = torch.randn(16, 40, generator=draw) * 3, torch.tensor(27.0), torch.tensor(7.0)
    whole = page(step, cap, None, hold=hold)
    first = page(step[:, :cut], cap, None, hold=hold)
    rest = page(step[:, cut:], cap, first[:, -1], hold=hold)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, atol=1e-4, rtol=1e-5)


def test_a_word_that_says_it_all_opens_at_once() -> None:
    found = page(torch.tensor([[9.0, -1.0, -30.0]]), torch.tensor(27.0), None, hold=torch.tensor(7.0))
    assert found.tolist() == [[27.0, 26.0, -4.0]]
