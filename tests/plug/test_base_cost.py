"""What a base costs: told by a probe that leaves the base as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.measuring.looking.inspection import BaseInspection, inspect
from addenda.plug.cost import LEARNING, cost_of
from conformance.world import differences, structure
from pico import ARCHS, pico, pico_tokenizer, random_ids


def state() -> Any:
    return torch.get_rng_state()


@pytest.mark.parametrize("arch", ARCHS)
def test_the_probe_leaves_no_trace(arch: str) -> None:
    """Laws 1 and 9: no value, no gradient, no flag, no draw, no module."""
    model = pico(arch)
    base = addenda.attach(model, pico_tokenizer())
    base.new("kept", addenda.LoRA(2))
    base.use("kept")
    model.train()
    ids, before, print_before, drawn = random_ids(2, 9), structure(model), addenda.fingerprint(model), state()
    cost = cost_of(base, seconds=0.01)
    assert not differences(structure(model), before)
    assert torch.equal(state(), drawn)
    assert list(base.modules) == ["kept"]
    assert base.selection.names() == {"kept"}
    assert all(p.grad is None for p in (*model.parameters(), *base.modules["kept"].parameters()))
    assert addenda.fingerprint(model) == print_before
    base.detach()
    assert torch.equal(model.eval()(ids).logits, pico(arch)(ids).logits)
    assert cost.kind == ("LoRA" if arch == "qwen3_moe" else "NeutralResidues")
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.weight_bytes >= 4 * cost.parameters
    assert cost.reading > 0
    assert cost.training > 0


@pytest.mark.parametrize(
    "kind", [addenda.LoRA(2), addenda.Registers(4), addenda.Cartridge(4), addenda.LocasGLU(4)], ids=str
)
def test_any_kind_can_be_asked_for(kind: Any) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    cost = cost_of(base, kind, seconds=0.01)
    assert cost.kind == type(kind).__name__
    assert cost.module_parameters == sum(p.numel() for p in base.new("m", kind).parameters() if p.requires_grad)


def test_what_training_keeps_grows_with_what_is_trained() -> None:
    small, deep = (cost_of(addenda.attach(pico("llama", num_hidden_layers=n)), seconds=0.01) for n in (2, 6))
    assert 1.5 < deep.activation_bytes / small.activation_bytes < 4
    # a token's states, at the very least: some of width 64 in each of two layers
    assert small.activation_bytes > 2 * 4 * 64 * 4
    assert small.training_bytes(4, 100) == (
        small.weight_bytes + LEARNING * small.module_parameters + 400 * small.activation_bytes
    )
    assert small.training_bytes(8, 64) < small.training_bytes(16, 64) < small.training_bytes(16, 128)


def test_halves_are_half_and_a_small_context_is_kept() -> None:
    wide = cost_of(addenda.attach(pico("llama")), seconds=0.01)
    half = cost_of(addenda.attach(pico("llama", dtype=torch.bfloat16, max_position_embeddings=40)), seconds=0.01)
    assert half.dtype == "bfloat16"
    assert half.weight_bytes < 0.6 * wide.weight_bytes
    assert half.probed <= half.length == 40


def test_speeds_become_times() -> None:
    cost = cost_of(addenda.attach(pico("llama")), seconds=0.05)
    assert cost.seconds_to_train(1000) == pytest.approx(1000 / cost.training)
    assert cost.seconds_to_read(1000) == pytest.approx(1000 / cost.reading)
    assert cost.reading > cost.training  # a step reads, and more
    assert json.loads(json.dumps(cost.as_dict()))["training_bytes"] == cost.training_bytes()
    assert "tokens a second" in str(cost)


def test_under_inference_mode_it_works_too() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with torch.inference_mode():
        assert cost_of(base, seconds=0.01).training > 0
    base.new("m", addenda.LoRA(2))


def test_an_inspected_base_tells_it_on_request() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    seen = inspect(base, cost=True)
    assert isinstance(seen, BaseInspection)
    assert seen.cost is not None
    assert seen.as_dict()["cost"] == seen.cost.as_dict()
    assert "cost" not in inspect(base).as_dict()


def test_mistakes() -> None:
    base = addenda.attach(pico("qwen3_moe"))
    with pytest.raises(AddendaError, match="seconds is a positive number; got 0"):
        cost_of(base, seconds=0)
    with pytest.raises(UnsupportedError):
        cost_of(base, addenda.ParallelAdapter(width=4), seconds=0.01)
    assert not base.modules
