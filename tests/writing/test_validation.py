"""Learning and forgetting, and when to stop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.objectives.head import Head
from addenda.text.texts import texts as read
from addenda.writing.settings import Settings
from addenda.writing.validation import Validation, is_forgetting


@pytest.fixture
def held_out(base: addenda.Base, texts: dict[str, Any]) -> Validation:
    module = base.new("a", addenda.NeutralResidues(width=8))
    base.new("b", addenda.LoRA(rank=2))
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    sources = {"learning": read(texts["learning"]), "forgetting": read(texts["forgetting"])}
    return Validation(base, sources, Settings(validation_tokens=None), 32, Head(base.model))


def test_learning_is_the_loss_taken_off_and_forgetting_the_loss_added(
    base: addenda.Base, held_out: Validation, texts: dict[str, Any]
) -> None:
    base.use("b")  # what is selected outside has no say
    found = held_out.run(["a", "b"])
    for on, sign in (("learning", -1), ("forgetting", 1)):
        with base.off():
            bare = addenda.perplexity(base, texts[on], length=32)
        with base.using("a"):
            now = addenda.perplexity(base, texts[on], length=32)
        assert found["a"][on]["value"] == pytest.approx(sign * (now.nats - bare.nats))
        assert abs(found["a"][on]["value"]) > 1e-3
        assert found["a"][on]["low"] <= found["a"][on]["value"] <= found["a"][on]["high"]
        assert found["b"][on]["value"] == 0.0  # fresh is neutral
    assert [(m.name, m.unit, m.n) for m in held_out.measures(found["a"])] == [
        ("learning", "nats per token", 4),
        ("forgetting", "nats per token", 4),
    ]


def gain(value: float, on: str = "learning") -> dict[str, Any]:
    return {"a": {on: {"value": value}}}


def test_waiting_counts_validations_without_a_gain(held_out: Validation) -> None:
    assert [held_out.improved(gain(v)) for v in (0.1, 0.3, 0.3, 0.2, 0.4)] == [True, True, False, False, True]
    assert (held_out.best, held_out.waited) == (0.4, 0)


def test_without_a_learning_text_less_forgetting_is_better(held_out: Validation) -> None:
    assert [held_out.improved(gain(v, "forgetting-law")) for v in (0.3, 0.1, 0.2)] == [True, True, False]


def test_names_say_what_is_reported() -> None:
    assert is_forgetting("forgetting")
    assert is_forgetting("forgetting-law")
    assert not is_forgetting("learning")
    assert not is_forgetting("general")
