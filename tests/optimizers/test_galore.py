"""GaLore: steps lie in the subspace, a gradient of low rank loses nothing, the state is as small as it says, runs resume."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import addenda
from addenda.core.errors import AddendaError
from addenda.core.registry import asked_for, recorded
from addenda.optimizers.adamw import AdamW
from addenda.optimizers.galore import SOON, GaLore
from addenda.optimizers.optimizer import OptimizerMethod, load_optimizer_tensors, optimizer_tensors
from pico import pico, pico_tokenizer


def drawn(*shape: int, rank: int | None = None, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(*shape, generator=random)
    return torch.randn(shape[0], rank, generator=random) @ torch.randn(rank, shape[1], generator=random)


def stepped(parameter: nn.Parameter, gradient: Tensor, method: Any, steps: int = 1, **more: Any) -> tuple[Tensor, Any]:
    """The whole change of a parameter after steps with one gradient, and the optimizer."""
    before, optimizer = parameter.detach().clone(), method.make([parameter], lr=0.1, **more)
    for _ in range(steps):
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach() - before, optimizer


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (8, 8)])
def test_a_step_lies_in_the_span_of_the_first_singular_vectors(shape: tuple[int, int]) -> None:
    gradient = drawn(*shape)
    change, _ = stepped(nn.Parameter(torch.zeros(shape)), gradient, GaLore(rank=2))
    assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) == 2
    left, _, right = torch.linalg.svd(gradient)
    tall = shape[0] >= shape[1]
    basis = right[:2].T if tall else left[:, :2]
    kept = change @ basis @ basis.T if tall else basis @ basis.T @ change
    torch.testing.assert_close(kept, change, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_a_gradient_of_low_rank_loses_nothing(shape: tuple[int, int]) -> None:
    gradient = drawn(*shape, rank=2)
    _, optimizer = stepped(nn.Parameter(torch.zeros(shape)), gradient, GaLore(rank=2))
    (state,) = optimizer.state.values()
    tall = gradient if shape[0] >= shape[1] else gradient.T
    torch.testing.assert_close(tall @ state["basis"] @ state["basis"].T, tall, rtol=1e-4, atol=1e-4)


def test_a_transposed_matrix_takes_the_transposed_step() -> None:
    gradient = drawn(12, 5)
    one, _ = stepped(nn.Parameter(torch.zeros(12, 5)), gradient, GaLore(rank=2), steps=3)
    other, _ = stepped(nn.Parameter(torch.zeros(5, 12)), gradient.T.contiguous(), GaLore(rank=2), steps=3)
    torch.testing.assert_close(one, other.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 3), (7,)])
def test_what_is_not_projected_takes_adams_own_step(shape: tuple[int, ...]) -> None:
    gradient = drawn(*shape)
    ours, _ = stepped(nn.Parameter(torch.zeros(shape)), gradient, GaLore(rank=3), steps=4)
    theirs, _ = stepped(nn.Parameter(torch.zeros(shape)), gradient, AdamW(), steps=4)
    torch.testing.assert_close(ours, theirs)


def test_adam_depends_on_the_coordinates() -> None:
    """So a subspace as large as can be projected is still no AdamW: the step of a rotated gradient is another."""
    gradient = drawn(12, 5)
    ours, _ = stepped(nn.Parameter(torch.zeros(12, 5)), gradient, GaLore(rank=4, scale=1.0))
    theirs, _ = stepped(nn.Parameter(torch.zeros(12, 5)), gradient, AdamW())
    assert (ours - theirs).abs().max() > 0.05


def test_the_state_is_as_small_as_it_says() -> None:
    _, optimizer = stepped(nn.Parameter(torch.zeros(40, 16)), drawn(40, 16), GaLore(rank=4))
    (state,) = optimizer.state.values()
    assert sum(tensor.numel() for tensor in state.values()) == 2 * 40 * 4 + 16 * 4 + 1


def test_the_subspace_is_taken_anew_and_moments_stay() -> None:
    parameter, method = nn.Parameter(torch.zeros(12, 5)), GaLore(rank=2, every=3)
    optimizer, bases = method.make([parameter], lr=0.1), list[Tensor]()
    for step in range(7):
        parameter.grad = drawn(12, 5, seed=step)
        optimizer.step()
        bases.append(optimizer.state[parameter]["basis"].clone())
    same = [bool(torch.equal(a, b)) for a, b in pairwise(bases)]
    assert same == [True, True, False, True, True, False]
    assert float(optimizer.state[parameter]["step"]) == 7


def test_decay_is_of_matrices_alone_and_after_the_step() -> None:
    change, _ = stepped(nn.Parameter(torch.ones(12, 5)), torch.zeros(12, 5), GaLore(rank=2), weight_decay=0.5)
    torch.testing.assert_close(change, torch.full((12, 5), -0.05))
    change, _ = stepped(nn.Parameter(torch.ones(5)), torch.zeros(5), GaLore(rank=2), weight_decay=0.5)
    assert not change.any()


def test_a_resumed_run_is_bit_equal() -> None:
    def run(parameter: nn.Parameter, optimizer: Any, steps: range) -> None:
        for step in steps:
            parameter.grad = drawn(12, 5, seed=step)
            optimizer.step()

    method = GaLore(rank=2, every=3)
    whole, part = nn.Parameter(drawn(12, 5, seed=9)), nn.Parameter(drawn(12, 5, seed=9))
    run(whole, method.make([whole], lr=0.1), range(8))
    optimizer = method.make([part], lr=0.1)
    run(part, optimizer, range(4))
    kept = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, {part: "a.b"}).items()}
    assert sorted(kept) == ["basis.a.b", "exp_avg.a.b", "exp_avg_sq.a.b", "step.a.b"]
    again = nn.Parameter(part.detach().clone())
    optimizer = method.make([again], lr=0.1)
    load_optimizer_tensors(optimizer, kept, {again: "a.b"})
    run(again, optimizer, range(4, 8))
    assert torch.equal(again, whole)


def test_train_takes_it_by_name(tmp_path: Any) -> None:
    texts = ["the patients were given insulin and the dose was raised twice a week. " * 6] * 8
    found: dict[str, Tensor] = {}
    for optimizer in ("adamw", "galore(rank=4, every=5)", GaLore(rank=4, every=5)):
        base = addenda.attach(pico("llama"), pico_tokenizer())
        module = base.new("m", addenda.ParallelAdapter(width=16))
        out = tmp_path / str(len(found))
        addenda.train(base, "m", corpus=texts, tokens=1024, lr=1e-2, length=32, log=False, optimizer=optimizer, out=out)
        found[repr(optimizer)] = module.tensors()["layers.0.ffn.up"].clone()
        said = module.card.training[-1].settings["optimizer"]
        assert said == (optimizer if isinstance(optimizer, str) else recorded(optimizer))
        json.dumps(said)
    plain, by_words, by_object = found.values()
    assert torch.equal(by_words, by_object)
    assert not torch.equal(plain, by_words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("galor", "no optimizer is called 'galor'.*did you mean 'galore'"),
        ("galore(ranks=3)", "galore has no option 'ranks'.*did you mean 'rank'"),
        ("galore(rank='a')", "galore: rank"),
        ("galore(rank=0)", "galore: rank is at least 1"),
        ("galore(rank=0", "options of optimizer are written as"),
        ("galore(3)", "options of optimizer are written as"),
        (addenda.LoRA(2), "optimizer is a name .adamw, galore."),
    ],
)
def test_mistakes(words: Any, said: str) -> None:
    with pytest.raises(AddendaError, match=said):
        asked_for(OptimizerMethod, words)


def test_no_subspace_is_taken_from_a_gradient_that_says_nothing() -> None:
    """A LoRA's first matrix has none at its first step; so has every matrix behind a gate that is shut."""
    for nothing in (torch.zeros(12, 5), torch.full((12, 5), float("nan")), torch.full((12, 5), float("inf"))):
        parameter = nn.Parameter(torch.ones(12, 5))
        optimizer = GaLore(rank=2).make([parameter], lr=0.1)
        for gradient in (nothing, nothing, drawn(12, 5)):
            assert "basis" not in optimizer.state[parameter]
            assert bool((parameter == 1).all())
            parameter.grad = gradient.clone()
            optimizer.step()
        right = torch.linalg.svd(drawn(12, 5))[2][:2].T
        basis = optimizer.state[parameter]["basis"]
        torch.testing.assert_close(basis @ basis.T, right @ right.T, rtol=1e-4, atol=1e-5)
        assert bool((parameter != 1).all())


def test_a_subspace_is_kept_where_a_new_one_cannot_be_taken() -> None:
    parameter = nn.Parameter(torch.zeros(5, 12))
    optimizer = GaLore(rank=2, every=1).make([parameter], lr=0.1)
    for gradient in (drawn(5, 12), torch.zeros(5, 12)):
        parameter.grad = gradient
        optimizer.step()
    first = nn.Parameter(torch.zeros(5, 12))
    other = GaLore(rank=2, every=1).make([first], lr=0.1)
    first.grad = drawn(5, 12)
    other.step()
    assert torch.equal(optimizer.state[parameter]["basis"], other.state[first]["basis"])


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_subspace_does_not_depend_on_the_gradients_size(size: float) -> None:
    bases = []
    for scale in (1.0, size):
        parameter = nn.Parameter(torch.zeros(12, 5))
        _, optimizer = stepped(parameter, drawn(12, 5) * scale, GaLore(rank=2))
        basis = optimizer.state[parameter]["basis"]
        bases.append(basis @ basis.T)
    torch.testing.assert_close(*bases, rtol=1e-4, atol=1e-5)


def test_a_subspace_is_taken_anew_soon_after_the_first() -> None:
    parameter, kept = nn.Parameter(torch.zeros(12, 5)), list[Tensor]()
    optimizer = GaLore(rank=2).make([parameter], lr=0.1)
    for step in range(SOON + 3):
        parameter.grad = drawn(12, 5, seed=step)
        optimizer.step()
        kept.append(optimizer.state[parameter]["basis"])
    assert [torch.equal(a, b) for a, b in pairwise(kept)] == [True] * (SOON - 1) + [False, True, True]


def test_every_row_of_a_lora_moves_at_default_settings() -> None:
    """Its `a` has more rows than the subspace has directions, and no gradient at the first step."""
    texts = ["the patients were given insulin and the dose was raised twice a week. " * 6] * 8
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    module = base.new("m", addenda.LoRA(rank=48))
    before = {name: tensor.clone() for name, tensor in module.tensors().items()}
    addenda.train(base, "m", corpus=texts, tokens=12 * 64, length=32, batch_rows=2, log=False, optimizer="galore")
    for name, tensor in module.tensors().items():
        assert bool((tensor != before[name]).any(1).all()), name


def test_a_run_that_was_interrupted_before_there_was_a_subspace_resumes() -> None:
    gradients = [torch.zeros(12, 5), *(drawn(12, 5, seed=step) for step in range(4))]

    def run(parameter: nn.Parameter, optimizer: Any, steps: list[Tensor]) -> None:
        for gradient in steps:
            parameter.grad = gradient.clone()
            optimizer.step()

    whole, part = nn.Parameter(drawn(12, 5, seed=9)), nn.Parameter(drawn(12, 5, seed=9))
    run(whole, GaLore(rank=2).make([whole], lr=0.1), gradients)
    optimizer = GaLore(rank=2).make([part], lr=0.1)
    run(part, optimizer, gradients[:1])
    kept = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, {part: "a"}).items()}
    optimizer = GaLore(rank=2).make([part], lr=0.1)
    load_optimizer_tensors(optimizer, kept, {part: "a"})
    run(part, optimizer, gradients[1:])
    assert torch.equal(part, whole)
