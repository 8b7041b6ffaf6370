"""A base works as it does in float32 on its own device, whatever default dtype and device the caller has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from conformance.world import perturbed
from pico import pico, pico_tokenizer, random_ids

TEXT = ["the heart and the liver of the patient are treated with a drug. " * 3] * 3
OTHER = ["A river runs in the town and on to the sea; boats! " * 4] * 3


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def attached() -> addenda.Base:
    return addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())


ROWS: dict[str, Any] = {
    "list": lambda base: base.rows([{"m": 0.3}, {"m": 0.7}]),
    "three": lambda base: base.rows([{"m": 0.1}, {"n": 0.9, "m": 0.3}]),
    "index": lambda base: base.rows(torch.tensor([1, 0]), table=[{"m": 0.3}, {"m": 0.7}]),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("case", ROWS)
def test_row_weights_are_float32(case: str, dtype: torch.dtype) -> None:
    base, ids = attached(), random_ids(2, 8)
    perturbed(base, "m", "lora")
    perturbed(base, "n", "parallel")
    with torch.no_grad():
        with ROWS[case](base):
            wanted = base.model(ids).logits
        with default(dtype), ROWS[case](base):
            assert torch.equal(base.model(ids).logits, wanted)
        assert not torch.equal(base.model(ids).logits, wanted)


def made(kind: Any, gate: str | None) -> dict[str, Tensor]:
    base = attached()
    module = base.new("m", kind, gate=gate)
    if module.gate is not None:
        settings: dict[str, Any] = {"tokens": 512, "length": 32, "batch_rows": 4, "log": False}
        addenda.train(base, "m", corpus=TEXT, replay=OTHER, replay_share=0.25, **settings)
    return dict(module.tensors())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("kind", "gate"),
    [
        (addenda.LoRA(rank=2), "document"),
        (addenda.NeutralResidues(width=4, gate="context"), None),
        (addenda.Registers(count=2), None),
    ],
    ids=["document", "context", "registers"],
)
def test_a_module_is_made_and_fitted_as_under_float32(kind: Any, gate: str | None, dtype: torch.dtype) -> None:
    wanted = made(kind, gate)
    with default(dtype):
        found = made(kind, gate)
    assert {name: tensor.dtype for name, tensor in found.items()} == {name: t.dtype for name, t in wanted.items()}
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def used(base: addenda.Base, name: str) -> list[Any]:
    module = base.new(name, addenda.LoRA(rank=2), gate="document")
    with base.using(name):
        score = addenda.perplexity(base, TEXT, length=32)
    measured = addenda.evaluate(base, {"text": TEXT}, name, length=32).texts[0]
    prompts = base.prompts(["the heart", "a river runs"])
    return [
        base.tokenize("the heart"),
        *prompts.values(),
        *map(torch.clone, module.tensors().values()),
        float(score),
        measured.off.nats,
    ]


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_nothing_goes_to_the_callers_default_device(device: str) -> None:
    base = attached()
    wanted = used(base, "a")
    with torch.device(device):
        found = used(base, "b")
        addenda.train(base, "b", corpus=TEXT, tokens=128, length=32, batch_rows=2, log=False)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(wanted, found, strict=True))
    assert not any(tensor.is_meta for tensor in base.modules["b"].tensors().values())
