"""Low-rank units: computed by tiles, never as full matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import addenda
from addenda.core.activations import activation
from addenda.core.errors import AddendaError
from addenda.core.formed import UnitsShape
from addenda.core.units import Units
from addenda.kinds.low_rank_units import LowRankAdapter
from pico import pico, pico_tokenizer


def adapter(count: int = 40, rank: int = 5, gated: bool = True) -> LowRankAdapter:
    phi = activation("silu")
    assert phi is not None
    torch.manual_seed(0)
    found = LowRankAdapter(UnitsShape(64, count, gated, phi, "silu", False), rank)
    with torch.no_grad():
        found.value_out.normal_()
    return found


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("tile", [1, 7, 16, 40, 1000])
def test_tiled_is_untiled(tile: int, gated: bool) -> None:
    found, x = adapter(gated=gated), torch.randn(2, 6, 64)
    whole = found.units().output(x, F.silu)
    torch.testing.assert_close(found.tiled(x, tile), whole, rtol=1e-4, atol=1e-5)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not out._is_view():
            self.most = max(self.most, out.numel())
        return out


def test_no_buffer_is_larger_than_a_tile() -> None:
    """As many numbers as tokens times the tile's rows, or the input's own width; never tokens times all units."""
    found, x = adapter(count=512, rank=5), torch.randn(1, 30, 64)
    with torch.no_grad(), Largest() as small:
        found.tiled(x, 16)
    with torch.no_grad(), Largest() as large:
        found.tiled(x, 512)
    assert small.most <= 30 * max(2 * 16, 64)
    assert large.most >= 30 * 512


def test_units_of_the_rank_come_back() -> None:
    base = addenda.attach(pico("llama"))
    before = adapter()
    like = {site.key: before for site in base.anatomy.at(before.seam)}
    kind, made = addenda.LowRankUnits(rank=5).of_units(base.anatomy, {key: before.units() for key in like}, like)
    assert kind == addenda.LowRankUnits(width=40, rank=5)
    x = torch.randn(9, 64)
    for found in made.values():
        torch.testing.assert_close(found.delta(x), before.delta(x), rtol=1e-3, atol=1e-4)


def test_it_folds_into_a_base_of_its_activation(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.LowRankUnits(width=12, rank=3))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2)
    assert addenda.merge(base, "m", out=tmp_path / "out").proof.holds


def test_a_base_activation_that_is_named_none_is_the_bases() -> None:
    base = addenda.attach(pico("gpt2"), pico_tokenizer())
    module = base.new("m", addenda.LowRankUnits(width=6, rank=2, gated=False, activation=None))
    units = module.adapter("layers.0.ffn").units()
    assert isinstance(units, Units)
    assert (units.gate, units.activation) == (None, None)


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(AddendaError, match="rank is at least 1 and at most width, 4; got 5"):
        addenda.LowRankUnits(width=4, rank=5)
