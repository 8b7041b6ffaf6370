"""LoRA and FFA-LoRA added up: what is exact and at which rank, the gradient of B, and moments of the product."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core.beside_linear import ProductAdapter
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.moments import Moment
from addenda.kinds.ffa_lora import FFALoRA, FrozenA
from addenda.kinds.lora import LoRA
from pico import pico, pico_tokenizer


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def lora(rank: int, seed: int, scale: float = 2.0) -> ProductAdapter:
    adapter = ProductAdapter(7, 9, rank, scale)
    with torch.no_grad():
        adapter.a.copy_(drawn(rank, 7, seed=seed))
        adapter.b.copy_(drawn(9, rank, seed=seed + 100))
    return adapter


def test_ranks_side_by_side_are_the_sum_of_products_and_averaged_factors_are_not() -> None:
    parts = [lora(2, 0), lora(2, 1)]
    wanted = 0.3 * parts[0].fold() + 0.7 * parts[1].fold()
    made = ProductAdapter(7, 9, 4, 2.0)
    made.add_up([(0.3, parts[0]), (0.7, parts[1])])
    torch.testing.assert_close(made.fold(), wanted, rtol=1e-5, atol=1e-5)
    apart = 2.0 * (0.3 * parts[0].b + 0.7 * parts[1].b) @ (0.3 * parts[0].a + 0.7 * parts[1].a)
    assert bool((apart - wanted).abs().max() > 1.0)


@pytest.mark.parametrize("kind", [LoRA(rank=3), LoRA(rank=3, alpha=5.0), LoRA(rank=4, rslora=True)])
def test_the_scale_stays_when_ranks_are_joined(kind: LoRA) -> None:
    joined = kind.joined(3, addenda.attach(pico("llama")).anatomy)
    assert isinstance(joined, LoRA)
    assert (joined.rank, joined.targets) == (3 * kind.rank, kind.targets)
    assert joined.scale == pytest.approx(kind.scale)


@pytest.mark.parametrize("rank", [4, 20])
def test_a_task_vector_of_small_rank_comes_back_in_balanced_factors(rank: int) -> None:
    vector = lora(3, 0).task_vector()
    made = ProductAdapter(7, 9, rank, 2.0)
    made.set_task_vector(vector)
    torch.testing.assert_close(made.task_vector(), vector, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made.b.T @ made.b, made.a @ made.a.T, rtol=1e-4, atol=1e-4)


def test_a_task_vector_of_full_rank_is_cut_to_the_nearest() -> None:
    vector = drawn(9, 7)
    made = ProductAdapter(7, 9, 2, 2.0)
    made.set_task_vector(vector)
    values = torch.linalg.svdvals(vector)
    torch.testing.assert_close((made.task_vector() - vector).norm(), values[2:].norm())


def test_moments_of_the_product_follow_from_those_of_its_factors() -> None:
    """Independent entries of variance r_i c_j: expected v of B and of A give r_i c_j back, exactly."""
    adapter = lora(3, 0)
    r, c = drawn(9, seed=5).exp(), drawn(7, seed=6).exp()
    v_b = adapter.scale**2 * r[:, None] * (adapter.a.detach().square() @ c)
    v_a = adapter.scale**2 * (r @ adapter.b.detach().square())[:, None] * c
    got = adapter.task_moments({"a": Moment.of(v_a), "b": Moment.of(v_b)})
    torch.testing.assert_close(got, r[:, None] * c, rtol=1e-5, atol=0)
    nothing = adapter.task_moments({"a": Moment.of(torch.zeros(3, 7)), "b": Moment.of(v_b)})
    assert not bool(nothing.any())  # and no NaN


# -- FFA-LoRA -------------------------------------------------------------------------------------------------------


def a_of(kind: Kind, seed: int = 0) -> dict[str, Tensor]:
    base = addenda.attach(pico("llama", num_hidden_layers=1), pico_tokenizer())
    return {name: t for name, t in base.new("m", kind, seed=seed).tensors().items() if name.endswith(".a")}


def test_a_comes_from_the_kinds_seed_and_the_site_alone() -> None:
    one, again = a_of(FFALoRA(rank=2)), a_of(FFALoRA(rank=2), seed=7)
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    other = a_of(FFALoRA(rank=2, seed=1))
    assert all(not torch.equal(tensor, other[name]) for name, tensor in one.items())
    some = a_of(FFALoRA(rank=2, targets=("up_proj",)))
    assert set(some) == {"layers.0.mlp.up_proj.a"}
    assert torch.equal(some["layers.0.mlp.up_proj.a"], one["layers.0.mlp.up_proj.a"])
    q, k = one["layers.0.self_attn.q_proj.a"], one["layers.0.self_attn.k_proj.a"]
    assert q.shape == k.shape
    assert not torch.equal(q, k)
    assert float(q.abs().max()) <= 64**-0.5


def test_only_b_is_trained_and_a_is_in_the_file(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=1), pico_tokenizer())
    module = base.new("m", FFALoRA(rank=2))
    assert {name.rsplit(".", 1)[-1] for name, _ in module.named_parameters()} == {"b"}
    before = {name: tensor.clone() for name, tensor in module.tensors().items()}
    addenda.train(
        base, "m", corpus=["the heart and the liver. " * 20] * 8, tokens=512, length=32, batch_rows=4, log=False
    )
    after = module.tensors()
    assert all(torch.equal(before[name], after[name]) == name.endswith(".a") for name in before)
    assert any(key.endswith("b.rows") for key in module.side_of("moments"))
    assert not any(".a." in key for key in module.side_of("moments"))
    folder = module.save(tmp_path / "m")
    back = addenda.attach(pico("llama", num_hidden_layers=1), pico_tokenizer()).plug(folder)
    assert all(torch.equal(tensor, back.tensors()[name]) for name, tensor in after.items())


def test_it_is_written_as_peft_writes_a_lora(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=1), pico_tokenizer())
    module = base.new("m", FFALoRA(rank=2, targets=("up_proj",)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    back = base.plug(addenda.save_peft(module, tmp_path / "peft", base), name="back")
    assert type(back.kind) is LoRA
    assert all(torch.equal(tensor, back.tensors()[name]) for name, tensor in module.tensors().items())


def test_the_mean_of_products_is_the_product_of_the_mean_where_a_is_shared() -> None:
    a = drawn(3, 7)
    parts = [FrozenA(a, 9, 2.0) for _ in range(3)]
    for n, part in enumerate(parts):
        part.b.data.copy_(drawn(9, 3, seed=n))
    made = FrozenA(a, 9, 2.0)
    made.add_up([(1 / 3, part) for part in parts])
    wanted = torch.stack([part.fold() for part in parts]).mean(0)
    torch.testing.assert_close(made.fold(), wanted, rtol=1e-5, atol=1e-6)
    others = [FrozenA(drawn(3, 7, seed=10 + n), 9, 2.0) for n in range(3)]
    for part, other in zip(parts, others, strict=True):
        other.b.data.copy_(part.b)
    apart = torch.stack([other.fold() for other in others]).mean(0)
    product = 2.0 * made.b @ torch.stack([other.a for other in others]).mean(0)
    assert bool((apart - product).norm() > 0.1 * apart.norm())


def test_the_gradient_of_b_is_that_of_the_product_through_a() -> None:
    adapter = FrozenA(drawn(3, 7), 9, 2.0)
    x, g = drawn(5, 7, seed=1), drawn(5, 9, seed=2)
    (adapter.delta(x) * g).sum().backward()
    assert adapter.b.grad is not None
    torch.testing.assert_close(adapter.b.grad, 2.0 * (g.T @ x) @ adapter.a.T, rtol=1e-5, atol=1e-5)


def test_with_orthonormal_rows_distances_are_those_of_the_bs() -> None:
    a = a_of(FFALoRA(rank=4, orthonormal=True))["layers.0.mlp.up_proj.a"]
    torch.testing.assert_close(a @ a.T, torch.eye(4), rtol=0, atol=1e-6)
    one, two = FrozenA(a, 9, 1.0), FrozenA(a, 9, 1.0)
    one.b.data.copy_(drawn(9, 4))
    two.b.data.copy_(drawn(9, 4, seed=1))
    torch.testing.assert_close((one.fold() - two.fold()).norm(), (one.b - two.b).norm())
    with pytest.raises(AddendaError, match="rank 65 has no orthonormal rows at layers.0"):
        a_of(FFALoRA(rank=65, orthonormal=True))
    with pytest.raises(AddendaError, match="seed is a whole number"):
        FFALoRA(seed=-1)


def test_alpha_is_a_scale() -> None:
    assert FFALoRA(rank=4).scale == 2.0
    assert math.isclose(FFALoRA(rank=4, rslora=True, alpha=8.0).scale, 4.0)
