"""What every gate keeps to: causal, one document at a time, state by rows, exactly shut at its threshold, whole in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core import registry
from addenda.core.gate import Gate, GateMethod, GateRows
from addenda.core.site import Seam
from conformance.world import batch, logits
from pico import pico, pico_tokenizer

METHODS = list(registry.methods("gate"))
ROWS, TOKENS = 3, 24


def drawn(seed: int, rows: int = ROWS, shift: float = 0.0) -> Tensor:
    """Inputs of a gate's site [R, T, D]."""
    return shift + torch.randn(rows, TOKENS, 64, generator=torch.Generator().manual_seed(seed))


def rows() -> list[GateRows]:
    """Two sides whose tokens differ in their mean, some documents each."""
    made: list[GateRows] = []
    for number, subject in enumerate((False, True) * 6):
        x = drawn(number, shift=0.6 if subject else -0.6)
        starts = torch.zeros(x.shape[:2], dtype=torch.bool)
        starts[:, 0] = True
        documents = torch.arange(ROWS)[:, None].expand(-1, TOKENS) + ROWS * number
        made.append(GateRows(x, documents, subject, starts))
    return made


def new(name: str, fit: bool = True) -> Gate:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    method = cast("GateMethod", registry.build("gate", name, {}))
    site = method.site(base.anatomy, Seam.FFN)
    assert site.d_in == 64
    gate = method.module(site)
    if fit:
        gate.begin()
        gate.fit(rows(), seed=0)
    return gate


@pytest.mark.parametrize("name", METHODS)
def test_a_fresh_gate_is_open_at_one(name: str) -> None:
    gate = new(name, fit=False)
    statistic, _ = gate(drawn(1))
    assert torch.equal(gate.amplitude(statistic), torch.ones(ROWS, TOKENS))


@pytest.mark.parametrize("name", METHODS)
def test_a_text_in_pieces_is_the_text_as_a_whole(name: str) -> None:
    gate, x = new(name), drawn(2)
    whole, end = gate(x)
    assert (whole.dtype, whole.shape) == (torch.float32, (ROWS, TOKENS))
    assert len(end) == ROWS
    first, state = gate(x[:, :7])
    second, state = gate(x[:, 7:8], state)
    third, state = gate(x[:, 8:], state)
    torch.testing.assert_close(torch.cat([first, second, third], 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, end, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_rows_are_alone_and_what_comes_later_changes_nothing(name: str) -> None:
    gate, x = new(name), drawn(3)
    whole, end = gate(x)
    later = x.clone()
    later[:, 10:] = 9.0
    torch.testing.assert_close(gate(later)[0][:, :10], whole[:, :10], rtol=1e-5, atol=1e-5)
    alone, state = gate(x[1:2])
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, end[1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_pads_say_nothing(name: str) -> None:
    gate, x = new(name), drawn(4)
    mask = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    mask[:, :5] = False
    padded, end = gate(torch.where(mask[..., None], x, 7.0), mask=mask)
    plain, state = gate(x[:, 5:])
    torch.testing.assert_close(padded[:, 5:], plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(end, state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_document_is_read_as_if_nothing_stood_before_it(name: str) -> None:
    gate, x = new(name), drawn(5)
    starts = torch.zeros(ROWS, TOKENS, dtype=torch.bool)
    starts[:, 0] = starts[:, 9] = True
    whole, end = gate(x, starts=starts)
    second, state = gate(x[:, 9:])
    torch.testing.assert_close(whole[:, 9:], second, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(end, state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_it_is_exactly_shut_up_to_its_threshold(name: str) -> None:
    gate = new(name)
    statistic = gate(drawn(6))[0].detach()
    for at in (float(statistic.min()) - 1, float(statistic.median()), float(statistic.max())):
        gate.threshold.fill_(at)
        open_at = gate.amplitude(statistic)
        assert torch.equal(open_at > 0, statistic > gate.threshold)
        assert not bool(open_at[statistic <= gate.threshold].any())


@pytest.mark.parametrize("name", METHODS)
def test_a_fit_is_the_same_each_time_and_no_random_state_is_touched(name: str) -> None:
    before = torch.get_rng_state()
    one, two = new(name), new(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not one.fresh
    assert all(torch.equal(tensor, two.state_dict()[key]) for key, tensor in one.state_dict().items())
    assert float(one.threshold) >= one.floor


@pytest.mark.parametrize("name", METHODS)
def test_a_module_behind_it_leaves_shut_tokens_alone_and_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with base.off():
        bare = logits(base.model, *batch())
    module = base.new("m", addenda.LoRA(rank=2), gate=name)
    gate: Any = module.gate
    with torch.no_grad():
        for tensor in module.adapters.parameters():
            tensor.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(1))
    with base.using("m"):
        assert not torch.equal(logits(base.model, *batch()), bare)
    gate.begin()
    gate.fit(rows(), seed=0)
    back = base.plug(module.save(tmp_path / "m"), name="again")
    assert back.tensors().keys() == module.tensors().keys()
    assert all(torch.equal(tensor, back.tensors()[key]) for key, tensor in module.tensors().items())
    with base.using("m"):
        here = logits(base.model, *batch())
    with base.using("again"):
        assert torch.equal(logits(base.model, *batch()), here)
    gate.threshold.fill_(float("inf"))
    with base.using("m"):
        assert torch.equal(logits(base.model, *batch()), bare)
