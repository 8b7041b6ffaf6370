"""Language modelling."""

from __future__ import annotations

import math

import torch

from addenda.objectives.lm import LanguageModelling
from addenda.objectives.objective import Objective


def test_nats_of_a_known_distribution() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    costs = LanguageModelling().cost(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(costs, torch.tensor([-math.log(0.75), math.log(2.0)]))
    assert LanguageModelling().context == 0
    assert not LanguageModelling().taught


def test_the_gradient_by_hand_is_that_of_autograd() -> None:
    logits, targets, weights = torch.randn(6, 30) * 3, torch.randint(0, 30, (6,)), torch.rand(6)
    costs, gradient = LanguageModelling().graded(logits.clone(), targets, weights)
    plain = Objective.graded(LanguageModelling(), logits, targets, weights, ())
    torch.testing.assert_close(costs, plain[0])
    torch.testing.assert_close(gradient, plain[1])
