"""What every optimizer keeps to: it lowers a loss, its state is tensors that a checkpoint names, it resumes to the bit."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from addenda.core import registry
from addenda.optimizers.optimizer import OptimizerMethod, load_optimizer_tensors, optimizer_tensors

METHODS = list(registry.methods("optimizer"))
Parameters = dict[str, nn.Parameter]


def made(name: str) -> OptimizerMethod:
    return cast("OptimizerMethod", registry.build("optimizer", name, {}))


def parameters(dtype: torch.dtype = torch.float32) -> Parameters:
    random = torch.Generator().manual_seed(0)
    shapes = {"wide": (40, 70), "tall": (90, 36), "vector": (12,), "number": ()}
    return {name: nn.Parameter(torch.randn(shape, generator=random).to(dtype)) for name, shape in shapes.items()}


def loss_of(held: Parameters) -> Tensor:
    return torch.stack([(p.float() - 2).square().sum() for p in held.values()]).sum()


def run(held: Parameters, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        (loss_of(held) * (1 + step % 3)).backward()
        optimizer.step()


def names(held: Parameters) -> dict[Any, str]:
    return {parameter: name for name, parameter in held.items()}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_lowers_a_loss(name: str, dtype: torch.dtype) -> None:
    held = parameters(dtype)
    before, first = float(loss_of(held).detach()), {key: p.detach().clone() for key, p in held.items()}
    run(held, made(name).make(held.values(), lr=1e-2), range(12))
    assert float(loss_of(held).detach()) < before
    assert all(not torch.equal(p, first[key]) for key, p in held.items())
    assert all(bool(torch.isfinite(p).all()) for p in held.values())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_resumed_run_is_bit_equal(name: str, stop: int) -> None:
    whole, part = parameters(), parameters()
    run(whole, made(name).make(whole.values(), lr=1e-2, weight_decay=0.1), range(14))
    optimizer = made(name).make(part.values(), lr=1e-2, weight_decay=0.1)
    run(part, optimizer, range(stop))
    kept = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, names(part)).items()}
    assert all(type(tensor) is Tensor for tensor in kept.values()), "all that it keeps is tensors"
    later = parameters()
    for key, p in later.items():
        p.data.copy_(part[key])
    resumed = made(name).make(later.values(), lr=1e-2, weight_decay=0.1)
    load_optimizer_tensors(resumed, kept, names(later))
    run(later, resumed, range(stop, 14))
    assert all(torch.equal(p, whole[key]) for key, p in later.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_share_slows_and_what_is_frozen_stays(name: str) -> None:
    fast, slow, frozen = parameters(), parameters(), parameters()
    run(fast, made(name).make(fast.values(), lr=1e-3), range(1))
    run(slow, made(name).make(slow.values(), lr=1e-3, slower=[slow["wide"]], share=0.1), range(1))
    start = parameters()
    step = {key: (fast[key] - start[key]).norm() for key in start}
    torch.testing.assert_close((slow["wide"] - start["wide"]).norm(), step["wide"] * 0.1, rtol=1e-2, atol=1e-6)
    assert torch.equal(slow["tall"], fast["tall"])
    frozen["wide"].requires_grad_(False)
    run(frozen, made(name).make(frozen.values(), lr=1e-3), range(1))
    assert torch.equal(frozen["wide"], start["wide"])
    assert torch.equal(frozen["tall"], fast["tall"])


@pytest.mark.parametrize("name", METHODS)
def test_parameters_without_a_gradient_are_left(name: str) -> None:
    held = parameters()
    optimizer = made(name).make(held.values(), lr=1e-2)
    (held["wide"].square().sum() + held["vector"].sum()).backward()
    before = held["tall"].detach().clone()
    optimizer.step()
    assert torch.equal(held["tall"], before)
    assert not torch.equal(held["wide"], parameters()["wide"])
