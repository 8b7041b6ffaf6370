"""Trainables give back what they borrow: flags and modes, of base and modules, in whatever order they are closed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from conformance.world import perturbed
from pico import pico, pico_tokenizer, random_ids


def base_with(*names: str, arch: str = "llama", **overrides: Any) -> addenda.Base:
    base = addenda.attach(pico(arch, **overrides), pico_tokenizer())
    for seed, name in enumerate(names):
        perturbed(base, name, "parallel", seed=seed)
    return base


def flags(module: torch.nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in module.parameters()]


def modes(module: torch.nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("first", [0, 1])
def test_flags_come_back_after_the_last_of_two(first: int) -> None:
    base = base_with("a", "b")
    next(base.model.parameters()).requires_grad_(False)
    before = flags(base.model)
    trainables = [base.trainable("a"), base.trainable("b")]
    trainables.pop(first).close()
    assert not any(flags(base.model)), "the other is still open, and the base wants gradients"
    trainables[0].close()
    trainables[0].close()
    assert flags(base.model) == before
    with base.frozen(), base.frozen():
        pass
    assert flags(base.model) == before


def test_a_block_that_ends_after_a_trainable_was_opened_keeps_the_base_frozen() -> None:
    base = base_with("a")
    before = flags(base.model)
    with base.frozen():
        trainable = base.trainable("a")
    assert not any(flags(base.model))
    trainable.close()
    assert flags(base.model) == before


@pytest.mark.parametrize("first", [0, 1])
def test_modes_come_back_after_the_last_of_two(first: int) -> None:
    """GPT-2's dropout would go on dropping after training."""
    base = base_with("a", "b", arch="gpt2", resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
    base.modules["a"].eval()
    before = [modes(module) for module in (base.model, *base.modules.values())]
    ids = random_ids(2, 8)
    bare = base.model(ids).logits
    trainables = [base.trainable("a"), base.trainable("b")]
    for trainable in trainables:
        trainable.train()
    assert all(modes(base.model))
    trainables.pop(first).close()
    assert all(modes(base.model)), "the other is still open, and in training"
    trainables[0].close()
    assert [modes(module) for module in (base.model, *base.modules.values())] == before
    assert torch.equal(base.model(ids).logits, bare)


def test_unplugging_puts_modes_back() -> None:
    base = base_with("a")
    base.trainable("a").train()
    base.unplug("a")
    assert not any(modes(base.model))
    assert all(flags(base.model))


def test_modules_alongside_get_no_gradient() -> None:
    base = base_with("a", "b", "c")
    next(base.modules["b"].parameters()).requires_grad_(False)
    before = flags(base.modules["b"])
    ids = random_ids(2, 8)
    with base.trainable("a", alongside={"b": 0.5}) as trainable:
        trainable(input_ids=ids, labels=ids).loss.backward()
        assert all(parameter.grad is not None for parameter in base.modules["a"].parameters())
        assert all(parameter.grad is None for parameter in base.modules["b"].parameters())
        assert all(flags(base.modules["c"])), "it is not on"
        with base.trainable("b", alongside="a"):
            assert flags(base.modules["b"]) == before, "another trainable trains it"
            assert all(flags(base.modules["a"]))
        assert not any(flags(base.modules["b"]))
    assert flags(base.modules["b"]) == before


def test_unplugging_a_module_that_is_alongside_closes_the_trainable() -> None:
    base = base_with("a", "b")
    base.trainable("a", alongside="b")
    module = base.modules["b"]
    base.unplug("b")
    assert all(flags(module))
    assert all(flags(base.model))


def test_checkpointing_is_given_back() -> None:
    """The layers call what they called before, once nothing is plugged."""
    base, ids = base_with("a"), random_ids(2, 8)
    base.model.gradient_checkpointing_enable({"use_reentrant": False})
    before = [layer._gradient_checkpointing_func for layer in base.host.layers]
    with base.trainable("a") as trainable:
        trainable.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        assert [layer._gradient_checkpointing_func for layer in base.host.layers] != before, "nothing was hooked"
    base.detach()
    assert [layer._gradient_checkpointing_func for layer in base.host.layers] == before


@pytest.mark.parametrize("case", ["registers", "cartridge"])
def test_a_forward_in_evaluation_mode_leaves_no_graph(case: str) -> None:
    base, ids = base_with(), random_ids(2, 8)
    module = perturbed(base, "a", case)
    with base.frozen(), base.using("a"):
        base.model(ids, labels=ids).loss.backward()
        assert all(parameter.grad is not None for parameter in module.parameters())
        gradients = [parameter.grad for parameter in module.parameters()]
        for _ in range(2):
            module.zero_grad()
            base.model(ids, labels=ids).loss.backward()
            assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), gradients, strict=True))
        kept = [t for _, sites in base._machinery._slots.values() for pair in sites.values() for t in pair]
        assert not any(tensor.requires_grad for tensor in kept), "a graph outlives its forward"
        with torch.no_grad():
            base.model(ids)
        assert base._machinery._slots, "without gradients they are computed once"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("case", ["registers", "cartridge"])
def test_what_is_kept_follows_every_step_of_an_optimizer(case: str, fused: bool, training: bool) -> None:
    """Fused optimizers change parameters and leave torch's version counters as they are."""
    base, ids = base_with(), random_ids(2, 8)
    module = perturbed(base, "a", case)
    with base.trainable("a") as trainable:
        trainable.train(training)
        optimizer = torch.optim.AdamW(trainable.parameters(), lr=0.1, fused=fused)
        loss = trainable(input_ids=ids, labels=ids).loss
        with torch.no_grad():
            before = trainable(ids).logits  # kept from here, in the middle of a step
        loss.backward()
        version = module.version()
        optimizer.step()
        assert module.version() != version
        with torch.no_grad():
            after = trainable(ids).logits
            base._machinery._slots.clear()
            assert torch.equal(trainable(ids).logits, after), "what was kept from before the step was used"
        assert not torch.equal(after, before)


def test_the_steps_of_other_models_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[torch.Tensor] = []
    monkeypatch.setattr("addenda.core.module.increment_version", counted.extend)
    base, other = base_with("a"), torch.nn.Linear(2, 2)
    own = list(base.modules["a"].parameters())
    for parameters in (list(other.parameters()), own):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        torch.optim.AdamW(parameters, fused=True).step()
    assert [id(parameter) for parameter in counted] == [id(parameter) for parameter in own]
