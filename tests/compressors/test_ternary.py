"""The ternary compressor: the published rounding, and the steps that fit it to what the module adds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import addenda
from addenda.compressors.compressor import Whole
from addenda.compressors.ternary import Ternary
from addenda.core.errors import AddendaError
from pico import pico, pico_tokenizer


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """As the verb calls a compressor: whoever needs gradients asks for them."""
    with torch.no_grad():
        yield


def whole(tokens: int = 400, width: int = 24) -> Whole:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.ParallelAdapter(width=width))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.2)
    seen = {key: torch.randn(tokens, 8, generator=draw) @ torch.randn(8, 64, generator=draw) for key in module.sites()}
    return Whole(module.kind, {key: module.adapter(key) for key in module.sites()}, base.anatomy, seen)


def error(method: Ternary, before: Whole, part: slice) -> float:
    made, total = method.compress(before)[1], 0.0
    for key, adapter in made.items():
        x = before.seen[key][part]
        wanted = before.adapters[key].delta(x)  # type: ignore[attr-defined, operator]
        total += float((adapter.delta(x) - wanted).norm() / wanted.norm()) / len(made)  # type: ignore[operator]
    return total


def test_without_steps_and_rounds_it_is_the_published_rule() -> None:
    before = whole()
    _, made = Ternary(steps=0, rounds=0).compress(before)
    for key, adapter in made.items():
        units, found = before.adapters[key].units(), adapter.units()
        size = units.values.abs().mean(dim=1, keepdim=True)
        torch.testing.assert_close(found.values, size * (units.values / size).round().clamp(-1, 1))


def test_fitting_lowers_the_error_on_inputs_that_were_not_seen() -> None:
    before = whole(tokens=1200)
    seen = {key: x[:800] for key, x in before.seen.items()}
    shown = Whole(before.kind, before.adapters, before.anatomy, seen)

    def held(method: Ternary) -> float:
        made = method.compress(shown)[1]
        told = [
            (before.adapters[key].delta(x[800:]), adapter.delta(x[800:]))  # type: ignore[attr-defined, operator]
            for (key, x), adapter in zip(before.seen.items(), made.values(), strict=True)
        ]
        return sum(float((found - wanted).norm() / wanted.norm()) for wanted, found in told) / len(told)

    published, rounded, fitted = held(Ternary(steps=0, rounds=0)), held(Ternary(steps=0)), held(Ternary(steps=60))
    assert rounded < published
    assert fitted < 0.9 * rounded


def test_a_module_that_adds_nothing_goes_on_adding_nothing() -> None:
    before = whole()
    for adapter in before.adapters.values():
        with torch.no_grad():
            adapter.down.zero_()  # type: ignore[operator, union-attr]
    _, made = Ternary(steps=3).compress(before)
    for key, adapter in made.items():
        assert not bool(adapter.delta(before.seen[key]).any())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": -1}, "steps is a number"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"rounds": 1000}, "rounds is from 0"),
    ],
)
def test_mistakes(options: dict[str, object], said: str) -> None:
    with pytest.raises(AddendaError, match=said):
        Ternary(**options)  # type: ignore[arg-type]
