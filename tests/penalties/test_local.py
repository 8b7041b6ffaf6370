"""The local neutrality loss."""

from __future__ import annotations

import torch

from addenda.penalties.local import local_penalty


def test_silent_sites_count_as_zero() -> None:
    deltas = [torch.tensor(1.0), torch.tensor(2.0)]
    assert float(local_penalty(deltas, 4)) == 0.75
    assert float(local_penalty([], 4)) == 0.0


def test_it_has_a_gradient_for_each_site() -> None:
    delta = torch.tensor(2.0, requires_grad=True)
    local_penalty([delta, delta * 3], 4).backward()
    assert delta.grad == 1.0
