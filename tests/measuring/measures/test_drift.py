"""Drift: parts that were planted to move are found; FPF tunes them and nothing else, and brings back what they forgot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import addenda
from addenda.cli import app
from addenda.core.errors import AddendaError, DataError, FileError
from addenda.measuring.measures.drift import Drift, only
from pico import pico, pico_tokenizer

FIRST = ["the river ran past the old mill and the children sang as they walked home along the lane. " * 6] * 8
SECOND = ["patients were given insulin twice and the dose was raised after a week of fasting. " * 6] * 8


@pytest.fixture
def base() -> Any:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=4))
    return base


def moved(base: Any, by: dict[str, float]) -> None:
    """Move every part of the module a little, and some more."""
    with torch.no_grad():
        for name, parameter in base.modules["m"].learning().items():
            parameter.add_(by.get(name.rpartition(".")[0], 0.001))


def drift(base: Any, *copies: Path) -> Drift:
    return addenda.evaluate(base, modules="m", drift=copies).drift


def test_a_part_that_was_planted_to_move_is_the_first(base: Any, tmp_path: Path) -> None:
    module = base.modules["m"]
    parts = {name.rpartition(".")[0] for name in module.learning()}
    module.save(tmp_path / "first")
    still = drift(base, tmp_path / "first")
    assert {one.part for one in still.parts} == parts
    assert all(one.steps == (0.0,) and one.jump is None for one in still.parts)
    often, task = sorted(parts)[0], sorted(parts)[-1]
    moved(base, {often: 0.5})
    found = drift(base, tmp_path / "first")
    assert (found.copies, found.parts[0].part) == (("first", "m"), often)
    assert found.parts[0].steps[0] == pytest.approx(0.5, rel=1e-4)
    assert found.parts[1].steps[0] == pytest.approx(0.001, rel=1e-3)
    assert drift(base, tmp_path / "first") == found
    module.save(tmp_path / "second")
    moved(base, {often: 0.5, task: 0.1})  # another subject: what always moves much is not what jumps
    found = drift(base, tmp_path / "first", tmp_path / "second")
    assert found.parts[0].part == task
    assert found.parts[0].jump == pytest.approx(100, rel=1e-2)
    assert {one.part: one.jump for one in found.parts}[often] == pytest.approx(1, rel=1e-3)


def test_k_fpf_tunes_the_few_alone_and_brings_back_what_was_known(base: Any, tmp_path: Path) -> None:
    module, settings = base.modules["m"], {"length": 16, "batch_rows": 4, "log": False}

    def loss(texts: list[str]) -> float:
        with base.using("m"):
            return float(addenda.perplexity(base, texts[:1], length=16))

    addenda.train(base, "m", corpus=FIRST, tokens=2048, lr=2e-2, **settings)
    module.save(tmp_path / "first")
    k, phase = 2, 4
    for _ in range(k):
        addenda.train(base, "m", corpus=SECOND, tokens=1024, lr=2e-2, **settings)
        few = [one.part for one in drift(base, tmp_path / "first").parts[:3]]
        forgotten = loss(FIRST)
        before = {name: tensor.clone() for name, tensor in module.tensors().items()}
        with only(module, few):
            report = addenda.train(base, "m", corpus=FIRST, tokens=phase * 64, lr=2e-3, **settings)
        assert report.steps == phase
        changed = {
            name.rpartition(".")[0] for name, old in before.items() if not torch.equal(old, module.tensors()[name])
        }
        assert changed == set(few)
        assert loss(FIRST) < forgotten
    assert sum(one.steps for one in module.card.training if one.tokens == phase * 64) == k * phase
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_mistakes_are_told_before_anything_runs(base: Any, tmp_path: Path) -> None:
    module = base.modules["m"]
    module.save(tmp_path / "m")
    base.new("small", addenda.LoRA(rank=2)).save(tmp_path / "small")
    base.new("other", addenda.ParallelAdapter(width=4)).save(tmp_path / "other")
    for folder, error, said in (
        ("small", DataError, r"is no earlier copy of 'm': 'layers.* is \(2, .*\), not \(4, .*\); .* and .* more"),
        ("other", DataError, "is no earlier copy of 'm': it is a ParallelAdapter, not a LoRA"),
        ("absent", FileError, "absent"),
    ):
        with pytest.raises(error, match=said):
            drift(base, tmp_path / folder)
    with pytest.raises(AddendaError, match="drift is of one module; acting are m, small"):
        addenda.evaluate(base, modules=("m", "small"), drift=tmp_path / "m")
    with pytest.raises(AddendaError, match="drift: what modules do .* name those that act"):
        addenda.evaluate(base, drift=tmp_path / "m")
    with pytest.raises(AddendaError, match="has no part 'gate' that learns; there are layers"), only(module, ["gate"]):
        pass
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_command_line_shows_it_and_the_card_keeps_it(base: Any, tmp_path: Path) -> None:
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    base.modules["m"].save(tmp_path / "first")
    most = sorted(name.rpartition(".")[0] for name in base.modules["m"].learning())[-1]
    moved(base, {most: 0.5})
    base.modules["m"].save(tmp_path / "m")
    words = ["evaluate", "--base", tmp_path / "base", "--plug", tmp_path / "m", "--drift", tmp_path / "first"]
    told = json.loads(CliRunner().invoke(app, [*map(str, words), "--json"]).stdout)["drift"]
    assert (told["copies"], told["parts"][0]["part"]) == (["first", "m"], most)
    shown = CliRunner().invoke(app, [*map(str, words), "--drift", str(tmp_path / "first"), "--save"])
    assert shown.exit_code == 0, shown.output
    assert "last over those before" in " ".join(shown.stdout.split())
    mean, largest = json.loads((tmp_path / "m" / "card.json").read_text())["measures"]
    assert (mean["name"], largest["name"]) == ("drift", f"drift of {most}, the most")
    assert largest["value"] == pytest.approx(0.5, rel=1e-4)
