"""The gate penalty."""

from __future__ import annotations

import math

import pytest
import torch

from addenda.core.call import Call, Collector, Share, Watch
from addenda.penalties.gate import gate_penalty


def test_both_hinges_count_by_their_scale() -> None:
    gate = torch.tensor([0.5, 2.0], requires_grad=True)
    penalty = gate_penalty([gate, torch.zeros(2)], torch.tensor([1.0, 0.5]))
    penalty.backward()
    assert float(penalty.detach()) == 0.75
    assert gate.grad.tolist() == [0.5, 0.25]
    assert float(gate_penalty([], torch.ones(2))) == 0.0


@pytest.mark.parametrize("rows", [None, torch.tensor([2, 0])])
def test_scores_are_gathered_as_a_cross_entropy(rows: torch.Tensor | None) -> None:
    replay = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    collector = Collector(replay, 1.0 - replay)
    call = Call([], 3, 2, watch=Watch(collector=collector))
    share = Share("a", None, rows, 1.0)  # type: ignore[arg-type]
    score = torch.tensor([[-1.0, 0.5], [2.0, -3.0], [0.0, 4.0]])
    call.collect_classified(share, score if rows is None else score[rows])
    call.recomputing = True
    call.collect_classified(share, score if rows is None else score[rows])  # records nothing twice
    (found,) = collector.gates["a"]
    shut = sum(math.log1p(math.exp(s)) for s in (-1.0, 0.5)) / 2
    subject = (2.0, -3.0, 0.0, 4.0) if rows is None else (0.0, 4.0)
    opened = sum(math.log1p(math.exp(-s)) for s in subject) / 4  # rows that do not select the module count as zero
    assert found.tolist() == pytest.approx([shut, opened])
    assert float(gate_penalty([found], torch.ones(2))) == pytest.approx(shut + opened)
