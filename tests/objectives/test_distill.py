"""Distillation over the teacher's best tokens and one class for the rest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.objectives.distill import Distill

TARGETS = torch.zeros(6, dtype=torch.long)


def whole(teacher: Tensor, student: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True).sum(-1)


def test_with_all_tokens_it_is_the_kl_itself() -> None:
    teacher, student = torch.randn(6, 20), torch.randn(6, 20)
    objective = Distill(top_k=99)
    costs = objective.cost(student, TARGETS, objective.teach(teacher))
    torch.testing.assert_close(costs, whole(teacher, student), rtol=1e-4, atol=1e-5)


def test_with_fewer_it_is_a_lower_bound_that_grows() -> None:
    teacher, student = torch.randn(6, 50) * 2, torch.randn(6, 50) * 2
    before = torch.zeros(6)
    for kept in (1, 5, 20, 49):
        objective = Distill(top_k=kept)
        costs = objective.cost(student, TARGETS, objective.teach(teacher))
        assert (costs >= before - 1e-5).all()
        before = costs
    assert (before <= whole(teacher, student) + 1e-5).all()


@pytest.mark.parametrize("sharp", [1.0, 60.0])
def test_a_student_that_agrees_costs_nothing_and_has_no_gradient(sharp: float) -> None:
    teacher = torch.randn(6, 50) * sharp
    student = teacher.clone().requires_grad_()
    objective = Distill(top_k=5)
    costs = objective.cost(student, TARGETS, objective.teach(teacher))
    costs.sum().backward()
    assert student.grad is not None
    assert costs.abs().max() < 1e-5
    assert student.grad.abs().max() < 1e-5


def test_a_student_that_follows_the_gradient_comes_to_agree() -> None:
    teacher, student = torch.randn(6, 50), torch.zeros(6, 50, requires_grad=True)
    objective = Distill(top_k=8)
    taught = objective.teach(teacher)
    optimizer = torch.optim.Adam([student], lr=0.1)
    first = float(objective.cost(student, TARGETS, taught).mean().detach())
    for _ in range(150):
        optimizer.zero_grad()
        last = objective.cost(student, TARGETS, taught).mean()
        last.backward()
        optimizer.step()
    assert float(last.detach()) < 0.05 * first


def test_options() -> None:
    assert Distill(reads=7).context == 7
    assert Distill().taught
    for wrong in ({"top_k": 0}, {"reads": -1}):
        with pytest.raises(ValueError, match="tokens"):
            Distill(**wrong)
