"""Truncated SVD of modules: the least error at the rank, for a LoRA's product and for a side FFN's matrices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import addenda
from addenda.compressors.compressor import Whole
from addenda.compressors.svd import SVD
from addenda.core.beside_linear import ProductAdapter
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from pico import pico, pico_tokenizer


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """As the verb calls a compressor: whoever needs gradients asks for them."""
    with torch.no_grad():
        yield


WEIGHTS = SVD(rank=2, by="weights")


def whole(kind: Kind, **seen: Tensor) -> Whole:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", kind)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return Whole(kind, {key: module.adapter(key) for key in module.sites()}, base.anatomy, seen)


def test_a_lora_loses_its_smallest_singular_values_and_no_more() -> None:
    before = whole(addenda.LoRA(rank=6, targets=("q_proj", "down_proj")))
    kind, made = WEIGHTS.compress(before)
    assert kind == addenda.LoRA(rank=2, alpha=2.0, targets=("q_proj", "down_proj"))
    for key, adapter in made.items():
        matrix, found = before.adapters[key].fold().detach(), adapter.fold().detach()  # type: ignore[union-attr]
        lost = torch.linalg.svdvals(matrix.double())[2:].square().sum()
        torch.testing.assert_close((matrix - found).double().square().sum(), lost, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rslora", [True, False])
def test_a_rank_that_is_there_changes_nothing(rslora: bool) -> None:
    before = whole(addenda.LoRA(rank=3, alpha=5.0, rslora=rslora))
    _, made = SVD(rank=3, by="weights").compress(before)
    for key, adapter in made.items():
        torch.testing.assert_close(adapter.fold(), before.adapters[key].fold(), rtol=1e-4, atol=1e-4)


def test_a_texts_metric_is_nearer_on_it() -> None:
    stretch = torch.logspace(1, -2, 64)
    x = torch.randn(400, 64, generator=torch.Generator().manual_seed(0)) * stretch
    before = whole(addenda.LoRA(rank=6, targets=("q_proj",)))
    before = Whole(before.kind, before.adapters, before.anatomy, dict.fromkeys(before.adapters, x))

    def error(how: SVD) -> float:
        made = how.compress(before)[1]
        gone = [before.adapters[key].delta(x) - adapter.delta(x) for key, adapter in made.items()]  # type: ignore[attr-defined, operator]
        return float(torch.stack(gone).square().sum())

    by_text = error(SVD(rank=2))
    before = Whole(before.kind, before.adapters, before.anatomy)
    assert by_text < 0.9 * error(WEIGHTS)


@pytest.mark.parametrize("kind", [addenda.ParallelAdapter(width=24), addenda.NeutralResidues(width=24, gate="token")])
def test_units_lose_the_smallest_singular_values_of_each_matrix(kind: Kind) -> None:
    before = whole(kind)
    found, made = WEIGHTS.compress(before)
    assert (found.rank, found.width, found.token_gate) == (2, 24, kind.gates_itself)  # type: ignore[attr-defined]
    for key, adapter in made.items():
        units, near = before.adapters[key].units(), adapter.units()
        for matrix, other in ((units.reads(), near.reads()), (units.values, near.values)):
            lost = torch.linalg.svdvals(matrix.double())[2:].square().sum()
            torch.testing.assert_close((matrix - other).double().square().sum(), lost, rtol=1e-4, atol=1e-4)


def test_energy_is_one_rank_for_all_sites() -> None:
    before = whole(addenda.LoRA(rank=6))
    spectra = [torch.linalg.svdvals(adapter.fold().detach().double()) for adapter in before.adapters.values()]  # type: ignore[union-attr]
    kind, _ = SVD(energy=0.7, by="weights").compress(before)
    by_rank = torch.stack([values[:6].square() for values in spectra]).sum(0)
    shares = by_rank.cumsum(0) / by_rank.sum()
    assert float(shares[kind.rank - 1]) >= 0.7  # type: ignore[attr-defined]
    assert float(shares[kind.rank - 2]) < 0.7  # type: ignore[attr-defined]
    assert SVD() == SVD(energy=0.9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 2, "energy": 0.5}, "give rank or energy, not both"),
        ({"rank": 0}, "rank must be positive"),
        ({"energy": 1.5}, "energy is a share"),
    ],
)
def test_mistakes(options: dict[str, object], said: str) -> None:
    with pytest.raises(AddendaError, match=said):
        SVD(**options)  # type: ignore[arg-type]


def test_a_lora_whose_a_is_shared_becomes_a_plain_one() -> None:
    before = whole(addenda.FFALoRA(rank=4, targets=("q_proj",)))
    kind, made = WEIGHTS.compress(before)
    assert kind == addenda.LoRA(rank=2, alpha=2.0, targets=("q_proj",))
    assert all(type(adapter) is ProductAdapter for adapter in made.values())
