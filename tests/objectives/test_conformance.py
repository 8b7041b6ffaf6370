"""What every objective keeps to: one finite cost a token, a gradient that is its own, tokens that do not know one another."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core import registry
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from pico import pico, pico_tokenizer

METHODS = list(registry.methods("objective"))
COUNT, VOCABULARY = 7, 50


def made(name: str) -> Objective:
    return cast("Objective", registry.build("objective", name, {}))


def drawn(seed: int, size: float = 2.0) -> Tensor:
    return size * torch.randn(COUNT, VOCABULARY, generator=torch.Generator().manual_seed(seed))


TARGETS = torch.randint(VOCABULARY, (COUNT,), generator=torch.Generator().manual_seed(9))


def taught(objective: Objective) -> tuple[Tensor, ...]:
    left = objective.teach(drawn(1)) if objective.taught else ()
    assert all(len(tensor) == COUNT for tensor in left), "what a teacher leaves has a row for each token"
    return left


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [0.0, 2.0, 80.0])
def test_each_token_has_one_finite_cost(name: str, size: float) -> None:
    objective, logits = made(name), drawn(0, size)
    costs = objective.cost(logits, TARGETS, taught(objective))
    assert (costs.shape, costs.dtype) == ((COUNT,), torch.float32)
    assert bool(torch.isfinite(costs).all())


@pytest.mark.parametrize("name", METHODS)
def test_a_token_is_alone(name: str) -> None:
    objective, logits = made(name), drawn(0)
    left = taught(objective)
    costs = objective.cost(logits, TARGETS, left)
    for at in range(COUNT):
        part = slice(at, at + 1)
        alone = objective.cost(logits[part], TARGETS[part], tuple(tensor[part] for tensor in left))
        torch.testing.assert_close(alone, costs[part])


@pytest.mark.parametrize("name", METHODS)
def test_its_gradient_is_that_of_its_costs(name: str) -> None:
    objective, weights = made(name), torch.rand(COUNT, generator=torch.Generator().manual_seed(2))
    left, leaf = taught(objective), drawn(0).requires_grad_()
    costs = objective.cost(leaf, TARGETS, left)
    (wanted,) = torch.autograd.grad((costs * weights).sum(), leaf)
    assert bool(wanted.any())
    found, gradient = objective.graded(drawn(0), TARGETS, weights, left)
    torch.testing.assert_close(found, costs.detach())
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert not found.requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_the_head_gives_it_chunk_by_chunk(name: str) -> None:
    objective, model = made(name), pico("llama")
    head = Head(model, chunk=3)
    states = torch.randn(COUNT, model.config.hidden_size)
    left = objective.teach(head.logits(states + 0.5)) if objective.taught else ()
    with torch.no_grad():
        whole = objective.cost(head.logits(states), TARGETS, left)
    _, costs = head.costs(objective, states, TARGETS, torch.ones(COUNT), left)
    torch.testing.assert_close(costs.detach(), whole)


@pytest.mark.parametrize("name", METHODS)
def test_a_module_learns_by_it(name: str) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.LoRA(rank=4))
    settings: dict[str, Any] = {"length": 32, "batch_rows": 4, "lr": 1e-2, "log": False, "tokens": 1024}
    corpus: list[Any] = ["the patients were given insulin. " * 40] * 6
    if made(name).answering is not None:  # it learns from answers, so from records that ask
        asked = {"prompt": "what were the patients given?", "completion": "insulin, of course, and water."}
        corpus = [asked | {"reads": "the patients were given insulin and water."}] * 24
    addenda.train(base, "m", corpus=corpus, objective=name, **settings)
    assert any(bool(tensor.any()) for key, tensor in module.tensors().items() if key.endswith(".b"))
    assert module.card.training[-1].objective == name
