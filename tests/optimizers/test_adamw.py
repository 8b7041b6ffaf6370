"""AdamW over a module's parameters, its schedule, and its way through a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from addenda.core.errors import AddendaError
from addenda.optimizers.adamw import adamw
from addenda.optimizers.optimizer import load_optimizer_tensors, optimizer_tensors, rate
from addenda.writing.settings import settings_from


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {
        "matrix": nn.Parameter(torch.randn(3, 4)),
        "gate": nn.Parameter(torch.randn(4)),
        "b": nn.Parameter(torch.ones(())),
    }


def test_matrices_decay_and_vectors_do_not() -> None:
    held = parameters()
    before = {name: p.detach().clone() for name, p in held.items()}
    optimizer = adamw(held.values(), lr=0.1, weight_decay=0.5)
    for p in held.values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(held["matrix"].detach(), before["matrix"] * 0.95)
    assert torch.equal(held["gate"].detach(), before["gate"])
    assert torch.equal(held["b"].detach(), before["b"])


def test_frozen_parameters_are_left_out() -> None:
    held = parameters()
    held["gate"].requires_grad_(False)
    optimizer = adamw(held.values(), lr=0.1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def run(held: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> float:
    loss = torch.zeros(())
    for step in steps:
        loss = sum(((p - 5) ** 2).sum() * (1 + step % 3) / 3 for p in held.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_a_quadratic_is_lowered_and_a_resumed_run_is_bit_equal() -> None:
    whole, part = parameters(), parameters()
    optimizer = adamw(whole.values(), lr=0.05, weight_decay=0.01)
    first = run(whole, optimizer, range(1))
    run(whole, optimizer, range(1, 9))
    assert float(sum(((p - 5) ** 2).sum() for p in whole.values()).detach()) / 3 < first

    optimizer = adamw(part.values(), lr=0.05, weight_decay=0.01)
    run(part, optimizer, range(4))
    tensors = {k: t.clone() for k, t in optimizer_tensors(optimizer, {p: n for n, p in part.items()}).items()}
    assert sorted(tensors)[:3] == ["exp_avg.b", "exp_avg.gate", "exp_avg.matrix"]
    again = {name: nn.Parameter(p.detach().clone()) for name, p in part.items()}
    optimizer = adamw(again.values(), lr=0.05, weight_decay=0.01)
    load_optimizer_tensors(optimizer, tensors, {p: n for n, p in again.items()})
    run(again, optimizer, range(4, 9))
    for name, p in whole.items():
        assert torch.equal(p, again[name])


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.55), (100, 0.1), (200, 0.1)]
)
def test_the_rate_rises_and_falls_to_its_floor(step: int, share: float) -> None:
    assert rate(step, 100, warmup=0.1, floor=0.1) == pytest.approx(share)


def test_without_warmup_the_first_step_is_whole() -> None:
    assert rate(0, 1, 0.0, 0.1) == 1.0


def test_slower_parameters_take_a_share_of_the_rate() -> None:
    one, two, three = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = adamw([one, two, three], lr=0.1, slower=[two], share=0.25)
    for parameter in (one, two, three):
        parameter.grad = torch.ones(2)
    optimizer.step()
    assert (one / two).tolist() == pytest.approx([4.0, 4.0])
    assert torch.equal(one, three)
    assert [(len(g["params"]), g["share"]) for g in optimizer.param_groups] == [(2, 1.0), (1, 0.25)]


@pytest.mark.parametrize("words", ["adamw", "galore"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("beta1=1.0", "beta1 is a share from 0 up to, not including, 1; got 1.0"),
        ("beta1=1.5", "beta1 is a share"),
        ("beta2=-0.1", "beta2 is a share"),
        ("eps=-1", "eps is positive and finite; got -1"),
        ("eps=0", "eps is positive"),
        ("eps=1e999", "eps is positive and finite; got inf"),
    ],
)
def test_options_with_which_a_step_is_no_number_are_refused_at_once(words: str, option: str, said: str) -> None:
    with pytest.raises(AddendaError, match=f"{words}: {said}") as told:
        settings_from({"optimizer": f"{words}({option})"})
    assert str(told.value).count(f"{words}: ") == 1
