"""Neutral Residues: how the input matrices are drawn, the gate that is a sigmoid, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.core.errors import AddendaError
from addenda.measuring.looking.activity import activity
from pico import pico, pico_tokenizer


def made(**options: Any) -> tuple[addenda.Base, Any]:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    return base, base.new("m", addenda.NeutralResidues(**{"width": 64} | options))


@pytest.mark.parametrize("gate", ["token", "context", "sigmoid"])
def test_the_input_matrices_have_the_spread_that_was_asked_for(gate: str) -> None:
    found = {}
    for init in ("small", "he"):
        base, module = made(gate=gate, init=init)
        width, layers = base.anatomy.width, base.anatomy.layers
        found[init] = torch.stack([module.adapter(key).up.detach() for key in module.sites()])
        expected = {"small": (width * layers) ** -0.5, "he": (2 / width) ** 0.5}[init]
        assert float(found[init].std()) == pytest.approx(expected, rel=0.02)
        if gate == "token":
            routers = torch.stack([module.adapter(key).router.detach() for key in module.sites()])
            assert float(routers.std()) == pytest.approx((width * layers) ** -0.5, rel=0.2)
    torch.testing.assert_close(found["he"], found["small"] * (2 * layers) ** 0.5)  # the same draw


def test_a_sigmoid_gate_is_one_of_its_score() -> None:
    base, module = made(gate="sigmoid")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3)
    adapter = module.adapter(next(module.sites()))
    x = torch.randn(2, 5, base.anatomy.width)
    half = adapter.up.shape[0] // 2
    inner = F.silu(x @ adapter.up[:half].T) * (x @ adapter.up[half:].T)
    gate = torch.sigmoid(adapter.classified(x))
    torch.testing.assert_close(adapter.classified(x), x @ adapter.router + adapter.bias)
    torch.testing.assert_close(adapter.delta(x), gate[..., None] * (inner @ adapter.down.T))
    with torch.no_grad():  # a decode step, with the weight of its row
        one = adapter.contribution(x[:1, :1], weight=torch.full((1, 1, 1), 0.5))
        torch.testing.assert_close(one.delta, 0.5 * adapter.delta(x[:1, :1]))
    seen = activity(base, "m", "the heart and the river")
    assert seen.measured == "gate"
    assert seen.values.shape[0] == base.anatomy.layers
    assert ((seen.values > 0) & (seen.values < 1)).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"init": "large"}, "init is 'small' or 'he'; got 'large'"),
        ({"gate": "soft"}, "gate is 'token', 'context', 'document' or 'sigmoid'; got 'soft'"),
        ({"gate": "sigmoid", "read_at": 0}, "read_at belongs to gate='context'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AddendaError, match=told):
        addenda.NeutralResidues(width=8, **options)
