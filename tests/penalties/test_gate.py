"""The gate penalty."""

from __future__ import annotations

import torch

from addenda.penalties.gate import gate_penalty


def test_the_mean_over_gates() -> None:
    gate = torch.tensor(0.5, requires_grad=True)
    penalty = gate_penalty([gate, torch.tensor(0.0)])
    penalty.backward()
    assert float(penalty.detach()) == 0.25
    assert gate.grad == 0.5
    assert float(gate_penalty([])) == 0.0
