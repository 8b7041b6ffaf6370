"""What every forgetter must keep: it forgets, ends by itself, is exact under resumption, and touches nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.core import registry
from addenda.core.errors import UnsupportedError
from conformance.kinds import CASES
from conformance.world import IDS, logits, made, perturbed
from knowing import FORGET, RETAIN, known
from pico import pico_tokenizer

METHODS = list(registry.methods("forgetter"))
RUN: dict[str, Any] = {"length": 32, "batch_rows": 4, "log": False}


@pytest.mark.parametrize("method", METHODS)
def test_it_forgets_more_than_it_loses_and_changes_the_module_alone(method: str) -> None:
    base = known()
    gate, weights = base.fingerprint, {name: p.clone() for name, p in base.model.named_parameters()}
    report = addenda.forget(base, "m", forget=FORGET, retain=RETAIN, method=method, tokens=6144, lr=5e-3, **RUN)
    gone, kept = report.forget, report.retain
    assert gone.loss.before.value < gone.loss.bare.value - 0.5  # it was known
    assert gone.change.value > 0.3
    assert gone.change.value > kept.change.value + 0.1
    assert gone.recall.after.value < gone.recall.before.value
    assert base.fingerprint == gate
    assert all(torch.equal(p, weights[name]) for name, p in base.model.named_parameters())
    assert not base.selection.names()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_known_costs_nothing(method: str) -> None:
    forgetter = registry.build("forgetter", method, {})
    losses = torch.tensor([4.0, 5.0], requires_grad=True)
    cost: Any = forgetter.cost(losses, torch.tensor([3.0, 5.0]))  # type: ignore[attr-defined]
    assert cost.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(cost.sum(), losses)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("method", METHODS)
def test_all_that_its_rule_keeps_is_tensors_of_its_parameters(method: str) -> None:
    module = known().modules["m"]
    named = {k.removeprefix("adapters.").replace("/", "."): p for k, p in module.named_parameters()}
    rule = registry.build("forgetter", method, {}).over(module, named, 1e-3)  # type: ignore[attr-defined]
    gradients = {name: torch.randn_like(p) for name, p in named.items()}
    rule.step(gradients, [gradients, gradients])
    assert rule.optimizers
    for optimizer in rule.optimizers.values():
        assert set(optimizer.state) <= set(named.values())
        assert all(isinstance(value, torch.Tensor) for state in optimizer.state.values() for value in state.values())
        assert all(group["lr"] > 0 for group in optimizer.param_groups)


def test_a_kind_that_says_it_vanishes_does() -> None:
    base = addenda.attach(made("llama"), pico_tokenizer())
    with base.off():
        bare = logits(base.model, IDS)
    kinds: set[str] = set()
    for case in CASES:
        try:
            module = perturbed(base, "m", case)
        except UnsupportedError:  # this architecture has no place for it
            continue
        says = all(module.adapter(site).vanishes for site in module.sites())
        if says:
            kinds.add(type(module.kind).__name__)
            with base.using("m"):
                assert not torch.equal(logits(base.model, IDS), bare)
                with torch.no_grad():
                    for parameter in module.adapters.parameters():
                        parameter.zero_()
                assert torch.equal(logits(base.model, IDS), bare), case
        base.unplug("m")
    assert kinds >= {
        "LoRA",
        "NeutralResidues",
        "ParallelAdapter",
        "DeltaProduct",
        "MLPMemory",
        "TernaryUnits",
        "LowRankUnits",
    }
