"""Divergences over the teacher's best tokens and a rest: their values are those of a dense computation."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.registry import asked_for
from addenda.objectives.objective import Objective

TARGETS = torch.zeros(6, dtype=torch.long)
#: each method by which way round its divergence is
FORWARD = {"distill": True, "reverse_kl": False, "on_policy": False}


def logits(seed: int, size: float = 2.0) -> Tensor:
    return size * torch.randn(6, 50, generator=torch.Generator().manual_seed(seed))


def dense(teacher: Tensor, student: Tensor, top_k: int, forward: bool) -> Tensor:
    """The same cost from whole distributions, in double precision, class by class."""
    p, q = teacher.double().softmax(-1), student.double().softmax(-1)
    costs = []
    for mine, his in zip(p, q, strict=True):
        best = mine.argsort(descending=True)[:top_k]
        others = torch.ones(len(mine), dtype=torch.bool).scatter(0, best, False)
        classes = [torch.cat([one[best], one[others].sum()[None]]) for one in (mine, his)]
        if top_k >= len(mine):
            classes = [one[best] for one in (mine, his)]
        first, second = classes if forward else classes[::-1]
        costs.append((first * (first.log() - second.log())).sum())
    return torch.stack(costs)


@pytest.mark.parametrize("top_k", [1, 5, 49, 50])
@pytest.mark.parametrize("name", FORWARD)
def test_the_cost_is_that_of_whole_distributions(name: str, top_k: int) -> None:
    objective = asked_for(Objective, f"{name}(top_k={top_k})")
    teacher, student = logits(0), logits(1)
    costs = objective.cost(student, TARGETS, objective.teach(teacher))
    torch.testing.assert_close(costs.double(), dense(teacher, student, top_k, FORWARD[name]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FORWARD)
def test_it_is_a_lower_bound_that_grows_with_the_tokens_kept(name: str) -> None:
    teacher, student = logits(0), logits(1)
    before = torch.zeros(6)
    for kept in (1, 5, 20, 50):
        objective = asked_for(Objective, f"{name}(top_k={kept})")
        costs = objective.cost(student, TARGETS, objective.teach(teacher))
        assert (costs >= before - 1e-5).all()
        before = costs
    torch.testing.assert_close(before.double(), dense(teacher, student, 50, FORWARD[name]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 7, 50])
@pytest.mark.parametrize("name", FORWARD)
def test_its_gradient_is_that_of_whole_distributions(name: str, top_k: int) -> None:
    teacher, student = logits(0), logits(1)
    objective = asked_for(Objective, f"{name}(top_k={top_k})")
    leaf, weights = student.double().requires_grad_(), torch.arange(6.0)
    wanted = dense(teacher, leaf, top_k, FORWARD[name])
    (wanted * weights).sum().backward()
    costs, gradient = objective.graded(student, TARGETS, weights, objective.teach(teacher))
    assert leaf.grad is not None
    torch.testing.assert_close(costs.double(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient.double(), leaf.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", FORWARD)
def test_where_nothing_is_left_to_others_the_gradient_is_finite(name: str) -> None:
    teacher, student = torch.zeros(6, 50), torch.full((6, 50), -80.0)
    teacher[:, 3], student[:, 3] = 60.0, 80.0
    objective = asked_for(Objective, f"{name}(top_k=2)")
    costs, gradient = objective.graded(student, TARGETS, torch.ones(6), objective.teach(teacher))
    assert bool(costs.isfinite().all())
    assert bool(gradient.isfinite().all())


def test_the_two_ways_round_want_different_students() -> None:
    """A teacher with two answers: the forward cost prefers a student that covers both, the reverse one that picks one."""
    teacher = torch.tensor([[0.0, 0.0, -20.0, -20.0]])
    covers, picks = torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, -9.0, -20.0, -20.0]])
    for name, better, worse in (("distill", covers, picks), ("reverse_kl", picks, covers)):
        objective = asked_for(Objective, f"{name}(top_k=4)")
        costs = [float(objective.cost(one, TARGETS[:1], objective.teach(teacher))) for one in (better, worse)]
        assert costs[0] < costs[1], name


def test_what_one_teacher_leaves_serves_all_of_them() -> None:
    lessons = {asked_for(Objective, f"{name}(top_k=9)").lesson for name in FORWARD}
    assert len(lessons) == 1
    assert asked_for(Objective, "distill(top_k=8)").lesson not in lessons


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("reverse_kl(top_k=0)", "top_k is a number of tokens"),
        ("on_policy(rounds=0)", "rounds is a whole number from 1"),
        ("on_policy(answer_tokens=0)", "answer_tokens is a whole number from 1"),
        ("on_policy(temperature=-1.0)", "temperature is 0"),
        ("on_policy(first='nobody')", "first"),
    ],
)
def test_options_out_of_range_are_refused(words: Any, message: str) -> None:
    with pytest.raises(AddendaError, match=message):
        asked_for(cast("Any", Objective), words)
