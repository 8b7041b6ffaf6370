"""What every combiner promises: names, shapes, order of modules, proportions of weights, one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from addenda.combiners.combiner import Combiner, Part
from addenda.combining.parts import Looked
from addenda.core import registry
from addenda.core.errors import AddendaError

METHODS = list(registry.methods("combiner"))
SHAPES: dict[str, tuple[int, ...]] = {"a": (6, 4), "b": (5,), "c": (2, 3, 2)}


def made(name: str) -> Combiner:
    return cast("Combiner", registry.build("combiner", name, {}))


def part(name: str, weight: float, seed: int) -> Part:
    random = torch.Generator().manual_seed(seed)
    vectors = {key: torch.randn(shape, generator=random) for key, shape in SHAPES.items()}
    moments = {key: torch.rand(shape, generator=random) for key, shape in SHAPES.items()}
    return Part(name, weight, vectors, moments)


def combined(name: str, parts: list[Part]) -> dict[str, Tensor]:
    return dict(made(name).combine(parts))


def close(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_every_tensor_comes_back_once_in_its_shape(name: str) -> None:
    parts = [part("x", 1.0, 0), part("y", 1.0, 1)]
    before = [{key: tensor.clone() for key, tensor in each.vectors.items()} for each in parts]
    got = list(made(name).combine(parts))
    assert {key: tuple(tensor.shape) for key, tensor in got} == SHAPES
    assert len(got) == len(SHAPES)
    assert all(tensor.dtype == torch.float32 and bool(torch.isfinite(tensor).all()) for _, tensor in got)
    assert any(bool(tensor.any()) for _, tensor in got)
    for each, kept in zip(parts, before, strict=True):
        assert all(torch.equal(each.vectors[key], tensor) for key, tensor in kept.items())


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_modules_makes_no_difference(name: str) -> None:
    parts = [part("x", 1.0, 0), part("y", 2.0, 1), part("z", 0.5, 2)]
    close(combined(name, parts), combined(name, parts[::-1]))


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_shares(name: str) -> None:
    one = combined(name, [part("x", 1.0, 0), part("y", 3.0, 1)])
    close(one, combined(name, [part("x", 0.25, 0), part("y", 0.75, 1)]))
    other = combined(name, [part("x", 3.0, 0), part("y", 1.0, 1)])
    assert any(not torch.allclose(tensor, other[key]) for key, tensor in one.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_scale_of_all_modules_is_that_of_the_result(name: str) -> None:
    parts = [part("x", 1.0, 0), part("y", 2.0, 1)]
    larger = [Part(p.name, p.weight, {k: 4 * t for k, t in p.vectors.items()}, p.moments) for p in parts]
    close({key: 4 * tensor for key, tensor in combined(name, parts).items()}, combined(name, larger))


@pytest.mark.parametrize("name", METHODS)
def test_tensors_may_be_computed_when_they_are_looked_at(name: str) -> None:
    parts = [part("x", 1.0, 0), part("y", 2.0, 1)]
    looked = [
        Part(p.name, p.weight, *(Looked(list(of), lambda key, of=of: of[key].clone()) for of in (p.vectors, p.moments)))
        for p in parts
    ]
    close(combined(name, parts), combined(name, looked))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_weights_that_say_nothing_are_refused(name: str, weight: float) -> None:
    with pytest.raises(AddendaError, match="that of 'y' is "):
        made(name).check_weights({"x": 1.0, "y": weight})


@pytest.mark.parametrize("name", METHODS)
def test_shares_are_those_of_its_sum(name: str) -> None:
    shares = made(name).shares([1.0, 3.0])
    if shares is None:
        return
    parts: list[Any] = [part("x", 1.0, 0), part("y", 3.0, 1)]
    assert shares == pytest.approx([0.25, 0.75])
    close(
        combined(name, parts),
        {key: sum(s * p.vectors[key] for s, p in zip(shares, parts, strict=True)) for key in SHAPES},
    )
