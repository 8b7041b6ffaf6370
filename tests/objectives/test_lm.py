"""Language modelling."""

from __future__ import annotations

import math

import torch

from addenda.objectives.lm import LanguageModelling


def test_nats_of_a_known_distribution() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    costs = LanguageModelling().cost(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(costs, torch.tensor([-math.log(0.75), math.log(2.0)]))
    assert LanguageModelling().context == 0
    assert not LanguageModelling().taught
