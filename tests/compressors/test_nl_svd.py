"""NL-SVD: as published and corrected, on plain units, and as a compressor of memories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.compressors.compressor import Whole
from addenda.compressors.nl_svd import NLSVD
from addenda.core.errors import AddendaError
from addenda.core.fewer_units import How, nl_svd
from addenda.kinds.locas_mlp import PlainSlotAdapter
from pico import pico, pico_tokenizer


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """As the verb calls a compressor: whoever needs gradients asks for them."""
    with torch.no_grad():
        yield


def toy(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """64 slots and 2000 activations that lie near 6 of 16 dimensions: keys, values, activations."""
    span = torch.randn(6, 16, generator=generator)
    x = torch.randn(2000, 6, generator=generator) @ span + 0.05 * torch.randn(2000, 16, generator=generator)
    keys = F.normalize(x[torch.randperm(2000, generator=generator)[:64]], dim=-1)
    return keys, torch.randn(64, 16, generator=generator) * 0.3, x


def error(how: How, seed: int, keep: int = 8) -> float:
    """Relative error of the compressed side FFN on held-out activations."""
    keys, values, x = toy(torch.Generator().manual_seed(seed))
    new_keys, new_values = nl_svd(keys, values, torch.relu, keep, how, x[:1000])
    assert new_keys.shape[0] <= keep
    torch.testing.assert_close(new_keys.norm(dim=-1), torch.ones(len(new_keys)))
    whole = torch.relu(x[1000:] @ keys.T) @ values
    return float((torch.relu(x[1000:] @ new_keys.T) @ new_values - whole).norm() / whole.norm())


def test_the_refit_is_the_better_compression() -> None:
    """On real activations, over seeds: the reason for the default."""
    published, oriented, refit = ([error(how, seed) for seed in range(8)] for how in ("published", "oriented", "refit"))
    assert sum(refit) < 0.75 * sum(published)
    assert all(a < b for a, b in zip(refit, published, strict=True))
    assert sum(oriented) <= 1.02 * sum(published)


def test_published_nl_svd_is_exact_on_the_rays_of_its_probes_and_not_on_their_negatives() -> None:
    keys, values, _ = toy(torch.Generator().manual_seed(1))
    probes, new = nl_svd(keys, values, torch.relu, 5, "published")

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ keys.T) @ values

    def compressed(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ probes.T) @ new

    for stretch in (0.5, 3.0):
        torch.testing.assert_close(compressed(stretch * probes), f(stretch * probes), rtol=1e-4, atol=1e-5)
    assert float((compressed(-probes) - f(-probes)).norm() / f(-probes).norm()) > 0.5


def test_directions_without_slots_are_dropped() -> None:
    keys = F.normalize(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), dim=-1)
    found, _ = nl_svd(keys, torch.eye(4)[:2], torch.relu, 4, "published")
    assert len(found) == 2


def memory(rank: int, used: int, length: float = 0.5) -> tuple[addenda.Base, Whole]:
    """A memory in GPT-2 of which the first slots are written, and activations in a few directions."""
    base = addenda.attach(pico("gpt2"), pico_tokenizer())
    module = base.new("m", addenda.LocasMLP(rank, init="gaussian", scale=8.0))
    draw = torch.Generator().manual_seed(0)
    span = torch.randn(6, 64, generator=draw)
    seen = {key: torch.randn(500, 6, generator=draw) @ span for key in module.sites()}
    with torch.no_grad():
        for key in module.sites():
            adapter = module.adapter(key)
            assert isinstance(adapter, PlainSlotAdapter)
            adapter.keys[:used] = F.normalize(seen[key][:used], dim=-1)
            adapter.values[:used] = length * F.normalize(torch.randn(used, 64, generator=draw), dim=-1)
    adapters = {key: module.adapter(key) for key in module.sites()}
    return base, Whole(module.kind, adapters, base.anatomy, seen)


def test_a_memory_is_compressed_to_half_of_what_is_written() -> None:
    _, whole = memory(rank=40, used=24)
    kind, made = NLSVD().compress(whole)
    assert kind.rank == 12  # type: ignore[attr-defined]
    for key, adapter in made.items():
        x, before = whole.seen[key], whole.adapters[key]
        wanted = before.delta(x)  # type: ignore[operator, attr-defined]
        assert float((adapter.delta(x) - wanted).norm() / wanted.norm()) < 0.4  # type: ignore[operator]
        longest = max(float(rows.detach().norm(dim=-1).max()) for rows in adapter.parameters())
        assert longest <= 1 + 1e-6, "the kind's guard would cut it at the next step"


def test_a_memory_that_keeps_all_is_what_it_was() -> None:
    """Free slots alone go; nothing is computed anew."""
    _, whole = memory(rank=20, used=7)
    kind, made = NLSVD(keep=7).compress(whole)
    assert kind.rank == 7  # type: ignore[attr-defined]
    for key, adapter in made.items():
        before = whole.adapters[key]
        torch.testing.assert_close(adapter.delta(whole.seen[key]), before.delta(whole.seen[key]))  # type: ignore[operator, attr-defined]


def test_values_longer_than_the_guard_allows_are_carried_by_tau() -> None:
    _, whole = memory(rank=16, used=16, length=1.0)
    _, made = NLSVD(keep=2, how="oriented").compress(whole)
    units = {key: nl_svd(u.up, u.values, whole.phi(u), 2, "oriented") for key, u in whole.units().items()}
    for key, adapter in made.items():
        keys, values = units[key]
        x = whole.seen[key]
        torch.testing.assert_close(adapter.delta(x), whole.phi(whole.units()[key])(x @ keys.T) @ values)  # type: ignore[operator]
        adapter.constrain()
        torch.testing.assert_close(adapter.delta(x), whole.phi(whole.units()[key])(x @ keys.T) @ values)  # type: ignore[operator]


def test_what_it_cannot_compress() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("glu", addenda.LocasGLU(4, init="gaussian"))
    with pytest.raises(AddendaError, match="'glu' cannot be compressed by nl_svd: .*plain units.*take ternary or svd"):
        addenda.compress(base, "glu", "nl_svd", text=["some text to read"] * 4)
    with pytest.raises(AddendaError, match="keep is a number of slots"):
        NLSVD(keep=0)
