"""The gate penalty."""

from __future__ import annotations

import torch

from addenda.penalties.gate import gate_penalty


def test_both_hinges_count_by_their_scale() -> None:
    gate = torch.tensor([0.5, 2.0], requires_grad=True)
    penalty = gate_penalty([gate, torch.zeros(2)], torch.tensor([1.0, 0.5]))
    penalty.backward()
    assert float(penalty.detach()) == 0.75
    assert gate.grad.tolist() == [0.5, 0.25]
    assert float(gate_penalty([], torch.ones(2))) == 0.0
