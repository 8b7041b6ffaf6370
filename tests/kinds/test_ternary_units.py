"""Ternary units: what the packed form computes, what it weighs, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.core.errors import AddendaError
from addenda.core.units import Units
from addenda.kinds.ternary_units import TernaryAdapter
from pico import pico, pico_tokenizer, random_ids

IDS = random_ids(2, 12)


def made(arch: str = "llama", **options: object) -> tuple[addenda.Base, TernaryAdapter]:
    base = addenda.attach(pico(arch), pico_tokenizer())
    module = base.new("m", addenda.TernaryUnits(**options))  # type: ignore[arg-type]
    with torch.no_grad():
        for adapter in map(module.adapter, module.sites()):
            assert isinstance(adapter, TernaryAdapter)
            adapter.value_scale.normal_(std=0.05)
    first = module.adapter("layers.0.ffn")
    assert isinstance(first, TernaryAdapter)
    return base, first


@pytest.mark.parametrize("gated", [True, False])
def test_it_computes_what_its_units_do_and_they_are_ternary(gated: bool) -> None:
    _, adapter = made(width=12, gated=gated)
    x, units = torch.randn(5, 64), adapter.units()
    torch.testing.assert_close(adapter.delta(x), units.output(x, F.silu), rtol=1e-4, atol=1e-6)
    for rows in (units.up, units.values) + ((units.gate,) if units.gate is not None else ()):
        for row in rows:
            size = row.abs().max()
            assert set((row / size).unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_units_become_their_own_ternary_units() -> None:
    """The inverse: what is ternary comes back bit for bit; what is not, rounded."""
    base, adapter = made(width=12, layers=(0,))
    units = adapter.units()
    kind, found = addenda.TernaryUnits().of_units(base.anatomy, {"layers.0.ffn": units}, {"layers.0.ffn": adapter})
    assert kind == addenda.TernaryUnits(width=12, layers=(0,))
    again = found["layers.0.ffn"].units()
    assert torch.equal(again.up, units.up)
    assert torch.equal(again.values, units.values)
    other = Units(torch.randn(3, 64), torch.randn(3, 64), activation="relu")
    kind, found = addenda.TernaryUnits().of_units(base.anatomy, {"layers.0.ffn": other}, {"layers.0.ffn": adapter})
    assert (kind.gated, kind.activation, kind.width) == (False, "relu", 3)
    near = found["layers.0.ffn"].units()
    assert 0.1 < float((near.up - other.up).norm() / other.up.norm()) < 0.6


def test_a_weight_takes_one_bit_and_six_tenths(tmp_path: Path) -> None:
    base, _ = made(width=32)
    module = base.modules["m"]
    codes = sum(t.numel() for t in module.tensors().values() if t.dtype == torch.uint8)
    weights = 3 * 3 * 32 * 64
    assert 8 * codes / weights <= 1.6 * 65 / 64
    size = (module.save(tmp_path / "m") / "module.safetensors").stat().st_size
    dense = (base.new("dense", addenda.ParallelAdapter(width=32)).save(tmp_path / "d") / "module.safetensors").stat()
    assert dense.st_size > 9 * size


def test_training_moves_scales_and_leaves_signs_and_base() -> None:
    base, adapter = made(width=12)
    codes = {name: tensor.clone() for name, tensor in adapter.named_buffers()}
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    scale = adapter.value_scale.detach().clone()
    texts = ["the patients were given insulin and the dose was raised twice. " * 6] * 8
    addenda.train(base, "m", corpus=texts, tokens=512, length=32, log=False)
    assert all(torch.equal(tensor, codes[name]) for name, tensor in adapter.named_buffers())
    assert not torch.equal(adapter.value_scale, scale)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.model.state_dict().items())


def test_signs_are_unpacked_once_and_anew_when_codes_change() -> None:
    _, adapter = made(width=12)
    with torch.inference_mode():
        first = adapter.signs("reads")
    assert adapter.signs("reads") is first
    assert not first.is_inference(), "else it could not be trained through later"
    adapter.reads.fill_(0)
    assert bool((adapter.signs("reads") == -1).all())
    adapter.to(torch.bfloat16)
    assert adapter.signs("reads").dtype == torch.bfloat16


def test_it_folds_into_the_base(tmp_path: Path) -> None:
    base, _ = made(width=12)
    assert addenda.merge(base, "m", out=tmp_path / "out").proof.holds
    base, _ = made(width=12, token_gate=True)
    with pytest.raises(AddendaError, match="a gate that opens and shuts by token"):
        addenda.merge(base, "m", out=tmp_path / "other")


def test_unplugged_it_leaves_the_base_as_it_was() -> None:
    base, _ = made(width=12)
    with torch.no_grad():
        with base.off():
            bare = base.model(IDS).logits
        with base.using("m"):
            assert not torch.equal(base.model(IDS).logits, bare)
        base.unplug("m")
        assert torch.equal(base.model(IDS).logits, bare)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, "width must be positive"),
        ({"activation": "tanh"}, "activation 'tanh' is not known"),
        ({"layers": ()}, "layers is a list"),
    ],
)
def test_options_that_make_no_units_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(AddendaError, match=said):
        addenda.TernaryUnits(**options)  # type: ignore[arg-type]
    with pytest.raises(AddendaError, match="layers are numbers from 0 to 2; got 9"):
        made(layers=(9,))
