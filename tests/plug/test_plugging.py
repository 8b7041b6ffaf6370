"""Making modules available: what fails leaves nothing behind, and a start from text happens once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import addenda
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from conformance.kinds import TEXT
from conformance.world import differences, structure
from pico import pico, pico_tokenizer, random_ids

STARTING = [addenda.Cartridge(count=4, init="text"), addenda.Registers(count=4, init="text")]


@pytest.mark.parametrize("kind", STARTING, ids=["cartridge", "registers"])
@pytest.mark.parametrize(
    ("tokenizer", "text", "message"), [(True, "a", "4 tokens of text"), (False, TEXT, "no tokenizer")]
)
def test_a_module_that_cannot_start_is_not_plugged(kind: Kind, tokenizer: bool, text: str, message: str) -> None:
    model = pico("llama")
    before = structure(model)
    base = addenda.attach(model, pico_tokenizer() if tokenizer else None)
    with pytest.raises(AddendaError, match=message):
        base.new("m", kind, text=text)
    with pytest.raises(AddendaError, match="does not start from text"):
        base.new("m", addenda.LoRA(2), text=text)
    assert not base.modules
    assert not differences(structure(model), before)
    base.new("m", kind)


def trained(base: addenda.Base, name: str, fused: bool) -> KnowledgeModule:
    """A module after one step through a trainable; transformers' Trainer steps with a fused optimizer."""
    ids = random_ids(2, 8)
    with base.trainable(name) as trainable:
        optimizer = torch.optim.AdamW(trainable.parameters(), lr=0.1, fused=fused)
        trainable(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return base.modules[name]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", STARTING, ids=["cartridge", "registers"])
def test_a_module_that_was_trained_awaits_no_text(kind: Kind, fused: bool) -> None:
    """Another training goes on from what was learned, where it would have started from the text anew."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", kind)
    assert module.awaits_text
    base.trainable("m").close()
    module.double().float()
    assert module.awaits_text, "nothing was changed"
    assert copy.deepcopy(module).awaits_text
    before = {name: tensor.clone() for name, tensor in trained(base, "m", fused).tensors().items()}
    assert not module.awaits_text
    addenda.train(base, "m", corpus=[TEXT * 40], tokens=32, length=32, batch_rows=1, lr=1e-6, log=False, probe=False)
    for name, tensor in module.tensors().items():
        assert torch.allclose(tensor, before[name], atol=1e-4), f"{name} was started anew"


@pytest.mark.parametrize("seed", [-1, 2**63, 10**20, 1.5, None])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    base = addenda.attach(pico("llama"))
    with pytest.raises(AddendaError, match="seed is a whole number"):
        base.new("a", addenda.LoRA(rank=2), seed=seed)
    assert not base.modules


@pytest.mark.parametrize(("kind", "said"), [(addenda.LoRA, "the class LoRA"), ("lora", "'lora'"), (None, "None")])
def test_what_is_no_kind_is_told(kind: Any, said: str) -> None:
    with pytest.raises(AddendaError, match=f"kind is one with its options, .*; got {said}"):
        addenda.attach(pico("llama")).new("m", kind)
