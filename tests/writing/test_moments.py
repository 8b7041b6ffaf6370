"""Second moments that training keeps: of the gradients of each step, whatever the optimizer, and exact under resumption."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import addenda
from addenda.core.moments import Moment, read
from addenda.writing import checkpoint
from addenda.writing.moments import BETA, SecondMoments
from addenda.writing.signals import TrainingStopped
from addenda.writing.step import Stepper
from pico import pico, pico_tokenizer


def test_they_are_adams_but_for_the_rank() -> None:
    random = torch.Generator().manual_seed(0)
    learning = {"w": nn.Parameter(torch.zeros(4, 3)), "v": nn.Parameter(torch.zeros(5))}
    kept, adam = SecondMoments(learning), torch.optim.Adam(learning.values(), lr=1e-3, betas=(0.9, BETA))
    for step in range(7):
        for p in learning.values():
            p.grad = None if step == 3 and p.dim() == 1 else torch.randn(p.shape, generator=random)
        kept.note()
        for p in learning.values():  # Adam leaves out a parameter without a gradient: to us it is zero
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        adam.step()
    for name, p in learning.items():
        v = adam.state[p]["exp_avg_sq"] / (1 - BETA**7)
        wanted, got = Moment.of(v), read(kept.kept())[name]
        torch.testing.assert_close(got.rows, wanted.rows)
        if wanted.columns is not None:
            assert got.columns is not None
            torch.testing.assert_close(got.columns, wanted.columns)


def test_their_state_comes_back_bit_by_bit() -> None:
    p = nn.Parameter(torch.zeros(4, 3))
    one, two = SecondMoments({"w": p}), SecondMoments({"w": p})
    assert one.kept() == {}
    p.grad = torch.rand(4, 3)
    one.note()
    two.load(copy.deepcopy(one.state()))
    one.note()
    two.note()
    assert all(torch.equal(tensor, two.kept()[name]) for name, tensor in one.kept().items())
    two.load({})  # of a checkpoint from before there were any
    assert two.steps == 2


def test_a_gradient_too_large_for_its_square_leaves_a_file_that_can_be_written() -> None:
    p = nn.Parameter(torch.zeros(2, 2))
    moments = SecondMoments({"w": p})
    p.grad = torch.full((2, 2), 1e30)
    moments.note()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in moments.kept().values())


def side(base: addenda.Base, quick: dict[str, Any], **more: Any) -> dict[str, Tensor]:
    module = base.new("a", addenda.LoRA(rank=2), seed=1)
    addenda.train(base, "a", **{**quick, **more})
    return module.side_of("moments")


def test_train_keeps_them_of_every_parameter_that_learns(base: addenda.Base, quick: Any, tmp_path: Path) -> None:
    kept = side(base, quick)
    module = base.modules["a"]
    assert read(kept).keys() == set(module.tensors())
    assert all(bool((moment.rows >= 0).all()) and bool(moment.rows.any()) for moment in read(kept).values())
    module.save(tmp_path / "a")
    base.unplug("a")
    again = base.plug(tmp_path / "a").side_of("moments")
    assert all(torch.equal(tensor, again[name]) for name, tensor in kept.items())


def test_another_optimizer_with_steps_of_no_size_keeps_the_same(make_base: Any, quick: Any) -> None:
    one = side(make_base(), quick, lr=1e-30)
    two = side(make_base(), quick, lr=1e-30, optimizer="galore(rank=1)")
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("several", [False, True])
def test_a_run_that_was_interrupted_keeps_the_same_bits(
    make_base: Any, quick: Any, texts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    def run(base: addenda.Base, out: Path, **more: Any) -> dict[str, dict[str, Tensor]]:
        names = ["a", "b"] if several else ["a"]
        for name in names:
            base.new(name, addenda.LoRA(rank=2), seed=1)
        corpus = {name: texts["corpus"][n:] for n, name in enumerate(names)} if several else quick["corpus"]
        addenda.train(base, names, **{**quick, "corpus": corpus, **more}, out=out, checkpoint_every=2)
        return {name: base.modules[name].side_of("moments") for name in names}

    whole = run(make_base(), tmp_path / "whole")
    take = Stepper.take

    def stopping(self: Any, step: int, passes: Any) -> Any:
        if step == 5:
            raise KeyboardInterrupt
        return take(self, step, passes)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "take", stopping)
        with pytest.raises((KeyboardInterrupt, TrainingStopped)):
            run(make_base(), tmp_path / "parts")
    found = checkpoint.newest(tmp_path / "parts.run")
    assert found is not None
    assert int(found.tensors["moments.0.steps"]) == found.step == 4
    resumed = run(make_base(), tmp_path / "parts", resume=True)
    for name, tensors in whole.items():
        assert all(torch.equal(tensor, resumed[name][key]) for key, tensor in tensors.items())
    told = run(make_base(), tmp_path / "parts", resume=True)  # finished: told again from its folder
    assert all(torch.equal(tensor, told["a"][key]) for key, tensor in whole["a"].items())


def test_a_text_memorized_by_a_trained_module_drops_its_moments() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    text = "the heart pumps the blood and the lungs take in the air. " * 12
    base.new("m", addenda.LocasGLU(rank=4))
    addenda.train(base, "m", corpus=[text], tokens=256, length=32, batch_rows=2, log=False)
    assert base.modules["m"].side_of("moments")
    addenda.memorize(base, "m", text=text, chunk=32, log=False)
    assert not base.modules["m"].side_of("moments")
