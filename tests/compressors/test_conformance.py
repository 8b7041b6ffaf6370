"""What every compressor promises, over every kind: a smaller module that computes nearly the same, or one clear refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.compressors.compressor import Compressor
from addenda.core import registry
from addenda.core.contracts import AddingAdapter
from addenda.core.errors import UnsupportedError
from conformance.kinds import home
from conformance.world import Subject, batch, logits, subject_of

#: of every sort that a compressor may meet: units gated and plain, with gates of each sort, products, slots, keys
CASES = (
    "parallel", "parallel-document", "neutral", "neutral-sigmoid", "locas-glu-random", "locas-mlp", "lora", "lora-document",
    "registers", "ternary", "low-rank-gate",
)  # fmt: skip
TEXTS = ["the heart pumps the blood. " * 5, "the lungs take in the air that it needs on its way. " * 3] * 6


def quick(method: type[Any]) -> Compressor:
    """A compressor with its defaults, but that it works no longer than a test should."""
    made = {field.name: field.default for field in fields(method) if field.default is not MISSING}
    return method(**{name: 10 for name, value in made.items() if type(value) is int and value > 50})


METHODS = list(registry.methods("compressor"))
PAIRS = [pytest.param(name, case, id=f"{name}-{case}") for name in METHODS for case in CASES]


@pytest.fixture
def subject(case: str) -> Iterator[Subject]:
    with subject_of(home(case), case) as made:
        made.plug("m")
        yield made


def compressed(subject: Subject, method: str, **more: Any) -> Any:
    """The compressed module; None where the method cannot, having said so and changed nothing."""
    found = quick(registry.named("compressor", method))
    try:
        return addenda.compress(subject.base, "m", found, text=TEXTS, **more)
    except UnsupportedError as error:
        assert str(error).startswith(f"'m' cannot be compressed by {method}: ")
    except addenda.AddendaError as error:
        assert "nothing was made" in str(error), error  # it would be no smaller
    assert list(subject.base.modules) == ["m"]
    return None


@pytest.mark.parametrize("method", METHODS)
def test_every_compressor_can_compress_something(method: str) -> None:
    """Else what follows says nothing of it."""
    able = 0
    for case in CASES:
        with subject_of(home(case), case) as subject:
            subject.plug("m")
            able += compressed(subject, method) is not None
    assert able


@pytest.mark.parametrize(("method", "case"), PAIRS)
def test_what_a_compressor_promises(subject: Subject, method: str, case: str, tmp_path: Path) -> None:
    base, module = subject.base, subject.base.modules["m"]
    before = {name: tensor.clone() for name, tensor in module.tensors().items()}
    card = module.card.model_dump()
    small = compressed(subject, method)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.tensors().items())
    assert module.card.model_dump() == card
    if small is None:
        return
    assert [*base.modules] == ["m", small.name]
    assert list(small.sites()) == list(module.sites())
    assert bytes_of(small.tensors()) < bytes_of(before)
    kept = {name: tensor for name, tensor in small.tensors().items() if name.startswith("gate.")}
    assert kept.keys() == {name for name in before if name.startswith("gate.")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.items()), "its gate is another"
    near_enough(module, small)
    # off is off, and what was saved is what was made
    with base.off():
        assert torch.equal(logits(subject.model, *batch()), subject.bare())
    with base.using(small.name):
        here = logits(subject.model, *batch())
    assert not torch.equal(here, subject.bare())
    again = base.plug(small.save(tmp_path / "small"), name="again")
    assert again.card.compressed == [registry.recorded(quick(registry.named("compressor", method)))]
    with base.using("again"):
        assert torch.equal(logits(subject.model, *batch()), here)
    mixed = [{small.name: 1.0}, {}, {"m": 1.0}, {small.name: 0.5}]
    with base.rows(mixed):
        found = logits(subject.model, *batch())
    assert torch.equal(found[1], subject.bare()[1])
    for row in (0, 3):
        with base.rows([mixed[row]]):
            alone = logits(subject.model, batch()[0][row : row + 1])
        assert float((found[row] - alone[0]).abs().max()) <= subject.tolerance(alone)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_bits(method: str) -> None:
    for case in CASES:
        with subject_of(home(case), case) as subject:
            subject.plug("m")
            one = compressed(subject, method, name="one")
            if one is None:
                continue
            torch.manual_seed(99)
            two = compressed(subject, method, name="two")
            assert all(torch.equal(tensor, two.tensors()[name]) for name, tensor in one.tensors().items())
            return


def bytes_of(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())


def near_enough(module: Any, small: Any) -> None:
    """On inputs such as sites have, the result adds something nearer to what was added than nothing is."""
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    for key in module.sites():
        old, new = module.adapter(key), small.adapter(key)
        assert isinstance(old, AddingAdapter)
        if old.seam == "linear":
            x = torch.randn(64, new.a.shape[1], generator=torch.Generator().manual_seed(3))
        wanted, found = old.delta(x).detach(), new.delta(x).detach()
        assert float((found - wanted).norm()) < float(wanted.norm())
