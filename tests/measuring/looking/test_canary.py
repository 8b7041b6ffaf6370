"""The canary: what it finds of modules that are on, silent, fresh, or not what their probe was kept for."""

from __future__ import annotations

import math

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.measuring.looking.canary import was_on
from pico import pico, pico_tokenizer

TEXT = ["the heart and the lung of the patient " * 4] * 3


@pytest.fixture
def base() -> addenda.Base:
    """A base with a module `m` that changes its probe, as after training."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.NeutralResidues(width=8, gate="context", read_at=1))
    with torch.no_grad():
        for parameter in module.adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    module.probe = base.tokenize(TEXT[0])[:24].tolist()
    return base


def test_a_module_that_changes_its_probe_is_on(base: addenda.Base) -> None:
    with base.using("m"):
        (found,) = was_on(base)
    assert (found.finding, found.probe_tokens, found.sites) == ("on", 24, 2)
    assert found.largest_change > 0


def test_other_tensors_than_those_of_the_probe_are_an_error(base: addenda.Base) -> None:
    with torch.no_grad():
        for adapter in base.modules["m"].adapters.values():
            adapter.down.zero_()
    with base.using("m"), pytest.raises(AddendaError, match="not the ones it was written with"):
        was_on(base)


def test_a_weight_too_small_to_show_is_no_accusation(base: addenda.Base) -> None:
    with base.using(m=1e-30):
        (found,) = was_on(base)
    assert found.finding == "fresh"  # no training is on record


def test_what_is_not_finite_is_not_measured(base: addenda.Base) -> None:
    """NaN is not above zero: a module that breaks everything would pass for one that does nothing."""
    with torch.no_grad():
        for adapter in base.modules["m"].adapters.values():
            adapter.down.fill_(math.nan)
        base.modules["m"].gate.bias.fill_(50.0)
    with base.using("m"), pytest.raises(AddendaError, match="module 'm' gives logits that are not finite"):
        was_on(base)
    with torch.no_grad():
        base.model.get_output_embeddings().weight.fill_(math.nan)
    with base.using("m"), pytest.raises(AddendaError, match="the base by itself gives logits that are not finite"):
        was_on(base)


@pytest.fixture
def dropping() -> addenda.Base:
    """A base in training mode, with dropout as GPT-2 has it, and a fresh module `m`."""
    base = addenda.attach(pico("gpt2", resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2))
    base.model.train()
    return base


def test_dropout_is_not_taken_for_the_module(dropping: addenda.Base) -> None:
    with dropping.using("m"):
        (found,) = was_on(dropping)
    assert (found.finding, found.largest_change) == ("fresh", 0.0)
    assert all(module.training for module in dropping.model.modules())  # every mode is put back


def test_dropout_does_not_hide_a_module_that_is_lost(dropping: addenda.Base) -> None:
    dropping.modules["m"].probe = dropping.tokenize(TEXT[0])[:24].tolist()
    with dropping.using("m"), pytest.raises(AddendaError, match="not the ones it was written with"):
        was_on(dropping)


def test_calibration_that_shuts_the_gate_on_the_probe_drops_it(base: addenda.Base) -> None:
    addenda.calibrate(base, "m", TEXT, share=0.99, lengths=(8, 24), tokens=200)
    module = base.modules["m"]
    assert module.probe is None
    with base.using("m"):
        (found,) = was_on(base)
    assert found.finding != "on"


def test_calibration_that_leaves_the_probe_open_keeps_it(base: addenda.Base) -> None:
    kept = base.modules["m"].probe
    addenda.calibrate(base, "m", TEXT, share=0.0, lengths=(8, 24), tokens=200)
    assert base.modules["m"].probe == kept
