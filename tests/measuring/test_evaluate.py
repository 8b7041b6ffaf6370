"""Evaluation: on and off on named texts, paired, after a proof that the modules ran."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda import AddendaError
from addenda.measuring import evaluate as file
from addenda.measuring.evaluate import evaluate
from pico import pico, pico_tokenizer

TEXTS = {"a": ["the river ran past the mill", "an old lane"], "b": ["the patients were given insulin"]}


@pytest.fixture
def base() -> Any:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.NeutralResidues(width=8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3)
    base.new("fresh", addenda.LoRA(rank=2))
    return base


def test_on_and_off_are_the_scores_of_perplexity(base: Any) -> None:
    base.use("fresh")
    found = evaluate(base, TEXTS, {"m": 0.5})
    assert [one.name for one in found.texts] == ["a", "b"]
    for one in found.texts:
        with base.off():
            assert one.off.nats == float(addenda.perplexity(base, TEXTS[one.name]))
        with base.using(m=0.5):
            assert one.on is not None
            assert one.on.nats == float(addenda.perplexity(base, TEXTS[one.name]))
        assert one.difference is not None
        assert one.difference.nats == pytest.approx(one.on.nats - one.off.nats)
    assert base.selection.everyone == {"fresh": 1.0}


def test_a_fresh_module_is_reported_as_such(base: Any) -> None:
    found = evaluate(base, TEXTS, ["fresh", "m"])
    assert {one.name: one.finding for one in found.canary} == {"fresh": "fresh", "m": "on"}


def test_a_module_that_did_not_run_is_an_error(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = base.model.model.layers[1].mlp
    monkeypatch.setattr(layer, "forward", type(layer).forward.__get__(layer))
    with pytest.raises(AddendaError, match=r"did not run so at layers\.1\.ffn"):
        evaluate(base, TEXTS, "m")


def test_nothing_selected_scores_the_base_alone(base: Any) -> None:
    found = evaluate(base, {"a": TEXTS["a"]}, tokens=4)
    assert found.texts[0].on is None
    assert found.texts[0].off.tokens == 4
    assert found.as_dict()["texts"][0]["difference"] is None


def test_no_text_is_refused(base: Any) -> None:
    with pytest.raises(AddendaError, match="at least one text"):
        file.evaluate(base, {})
