"""The nearest subject: whitened means, the cosine to a key, one early layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.core.site import Seam
from addenda.routers.nearest import Nearest
from pico import ARCHS, pico, pico_tokenizer
from routed import base_with, learn, learned, prompts


def test_subjects_are_told_apart_and_general_prompts_are_left_to_the_base() -> None:
    base = learned("nearest", "medical", "numbers", "shouted")
    for name in ("medical", "numbers", "shouted"):
        chosen = addenda.route(base, prompts(name, 12)).selections
        assert chosen.count({name: 1.0}) >= 8
        assert chosen.count({name: 1.0}) + chosen.count({}) == 12
    assert addenda.route(base, prompts("general", 12)).selections.count({}) > 10


def test_the_key_is_where_the_subject_lies_after_whitening() -> None:
    draw = torch.Generator().manual_seed(0)
    scale = torch.cat([torch.full((4,), 9.0), torch.ones(28)])
    general = torch.randn(400, 32, generator=draw) * scale + 5.0
    aside = torch.zeros(32)
    aside[[0, 20]] = torch.tensor([9.0, 1.0])  # one deviation each: whitening makes them alike
    subject = torch.randn(400, 32, generator=draw) * scale + 5.0 + aside
    keys = Nearest(components=4).learn(subject, general)
    assert keys["key"].norm() == pytest.approx(1.0, abs=1e-5)
    assert keys["key"][0] == pytest.approx(float(keys["key"][20]), abs=0.15)
    assert keys["key"][0] > 0.55
    assert keys["whiten"].shape == (4, 32)
    distances = Nearest().distances(keys, torch.stack([general.mean(0) + aside, general.mean(0) - aside]))
    assert distances.tolist() == pytest.approx([0.0, 2.0], abs=0.05)


def test_pads_and_the_first_token_do_not_count() -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True, False, False], [True, False, False, False, False]])
    means = Nearest().features(None, {"layers.1.ffn": x}, mask)  # type: ignore[arg-type]
    assert torch.allclose(means[0], x[0, 1:3].mean(0))
    assert torch.allclose(means[1], x[1, 0])


def test_only_the_layers_below_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    base = learned("nearest", "medical")

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the last layer ran")

    monkeypatch.setattr(base.host.layers[-1], "forward", fail)
    addenda.route(base, prompts("medical"))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_is_read(arch: str) -> None:
    base = addenda.attach(pico(arch), pico_tokenizer())
    kind = addenda.LoRA(rank=1) if base.anatomy.at(Seam.LINEAR) else addenda.Registers(count=2)
    base.new("medical", kind)
    learn(base, "medical", "nearest")
    routes = addenda.route(base, [*prompts("medical"), *prompts("general")])
    assert sum(map(bool, routes[:6])) > sum(map(bool, routes[6:]))


def test_any_kind_is_routed_to() -> None:
    base = base_with(medical=addenda.Registers(count=2))
    learn(base, "medical", "nearest")
    assert addenda.route(base, prompts("medical")).selections == [{"medical": 1.0}] * 6


def test_what_cannot_be() -> None:
    base = base_with(medical=addenda.LoRA(rank=1))
    with pytest.raises(AddendaError, match="layer is a number from 0 to 2, or 'early'; got 7"):
        learn(base, "medical", "nearest(layer=7)")
    with pytest.raises(AddendaError, match="at least 1; got 0"):
        learn(base, "medical", "nearest(components=0)")
    assert base.modules["medical"].side == {}
