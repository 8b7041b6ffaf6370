"""Approximate folds: what a gated module comes to without its gate, and whether that is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.combining import approximate as nearest
from addenda.combining.manifest import read_manifest
from addenda.combining.proof import logits_of
from addenda.core.errors import AddendaError, DataError, UnsupportedError
from pico import pico, pico_tokenizer

WORDS = "the heart pumps blood and lungs take in air that it needs on its way to all the cells of a body".split()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two texts of random words, long enough to fit on."""
    place, generator = tmp_path_factory.mktemp("texts"), torch.Generator().manual_seed(0)
    found = []
    for name in ("subject", "general"):
        order = torch.randint(len(WORDS), (16, 120), generator=generator).tolist()
        found.append(place / f"{name}.jsonl")
        found[-1].write_text("".join(json.dumps({"text": " ".join(WORDS[i] for i in row)}) + "\n" for row in order))
    return found


@pytest.fixture(params=["token", "context"])
def base(request: pytest.FixtureRequest) -> Iterator[addenda.Base]:
    """A base with gated adapters `m` whose gate is one everywhere."""
    found = addenda.attach(pico("llama"), pico_tokenizer())
    module = found.new("m", addenda.NeutralResidues(width=6, gate=request.param, init="small"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key in module.sites():
            adapter: Any = module.adapter(key)
            adapter.down.copy_(torch.randn(adapter.down.shape, generator=generator) * 3)
            if request.param == "token":
                adapter.router.zero_()
                adapter.threshold.fill_(-1.0)
    yield found
    found.detach()


@torch.no_grad()
def logits(model: Any, base: addenda.Base, texts: list[Path]) -> list[torch.Tensor]:
    """Of a model, or of what was written to a folder, on the rows that were fitted on."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model, dtype="auto") if isinstance(model, Path) else model
    return logits_of(model, [row for text in nearest.read(base, texts) for row in text.fit])


@torch.no_grad()
def apart(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return float(sum((a - b).square().sum() for a, b in zip(one, other, strict=True)) ** 0.5)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_gate_that_never_changes_folds_nearly_exactly(
    base: addenda.Base, texts: list[Path], weight: float, tmp_path: Path
) -> None:
    report = addenda.merge(base, {"m": weight}, out=tmp_path / "out", approximate=texts)
    with base.off():
        bare = logits(base.model, base, texts)
    with base.using(m=weight):
        plugged = logits(base.model, base, texts)
    assert apart(logits(tmp_path / "out", base, texts), plugged) < 0.02 * apart(plugged, bare)
    assert report.proof is None
    assert report.approximation is not None
    assert report.approximation.modules == ("m",)
    assert [one.text for one in report.approximation.losses] == ["subject.jsonl", "general.jsonl"]
    for one in report.approximation.losses:
        assert abs(one.plugged - one.bare) > 0.01
        assert one.merged == pytest.approx(one.plugged, abs=0.02 * abs(one.plugged - one.bare))


def half_open(base: addenda.Base) -> None:
    """Gates that are open on some tokens only, and contributions so small that layers do not drown each other's."""
    module = base.modules["m"]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key in module.sites():
            adapter: Any = module.adapter(key)
            adapter.down.mul_(0.1)
            if adapter.router is not None:
                adapter.router.copy_(torch.randn(adapter.router.shape, generator=generator))
                adapter.threshold.zero_()
        if module.gate is not None:
            module.gate.weight.copy_(torch.randn(module.gate.weight.shape, generator=generator))
            module.gate.bias.zero_()


def test_the_refitted_values_are_nearer_than_none_and_than_the_adapters_own(
    base: addenda.Base, texts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_open(base)
    with base.off():
        bare = logits(base.model, base, texts)
    with base.using("m"):
        plugged = logits(base.model, base, texts)
    addenda.merge(base, "m", out=tmp_path / "fitted", approximate=texts)
    monkeypatch.setattr(nearest._Sums, "solved", lambda sums: sums.units)
    addenda.merge(base, "m", out=tmp_path / "own", approximate=texts)
    fitted = apart(logits(tmp_path / "fitted", base, texts), plugged)
    assert fitted < 0.95 * apart(bare, plugged)
    assert fitted < apart(logits(tmp_path / "own", base, texts), plugged)


def test_what_it_loses_stands_beside_the_weights_and_in_what_is_printed(
    base: addenda.Base, texts: list[Path], tmp_path: Path
) -> None:
    report = addenda.merge(base, "m", out=tmp_path / "out", approximate=texts, multiple=8)
    manifest = read_manifest(tmp_path / "out")
    assert report.approximation is not None
    assert manifest.proof is None
    assert manifest.approximation == json.loads(json.dumps(report.approximation.as_dict()))
    assert report.as_dict()["approximation"]["losses"][0]["text"] == "subject.jsonl"
    assert "without gates, an approximation fitted on" in str(report)
    assert "subject.jsonl: base " in str(report)
    removed = addenda.subtract(tmp_path / "out", "m", out=tmp_path / "without")
    assert (removed.restored, removed.exact) == (True, True)
    assert read_manifest(tmp_path / "without").approximation is None


def test_numbers_that_overflow_are_refused(base: addenda.Base, texts: list[Path], tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in base.modules["m"].parameters():
            parameter.mul_(1e4)
    with pytest.raises(AddendaError, match="nothing was written: the merged model's loss on .* in float16"):
        addenda.merge(base, "m", out=tmp_path / "out", approximate=texts, dtype="float16")
    assert not (tmp_path / "out").exists()


def test_a_lone_path_is_one_text(base: addenda.Base, texts: list[Path]) -> None:
    assert [text.name for text in nearest.read(base, str(texts[0]))] == ["subject.jsonl"]


def test_rows_that_are_measured_on_were_not_fitted_on(base: addenda.Base, texts: list[Path]) -> None:
    for text in nearest.read(base, texts):
        assert len(text.held) * (nearest.HELD - 1) <= len(text.fit)
        fitted = {tuple(row.tolist()) for row in text.fit}
        assert all(tuple(row.tolist()) not in fitted for row in text.held)


def test_a_gguf_of_it_says_both(base: addenda.Base, texts: list[Path], tmp_path: Path) -> None:
    report = addenda.merge(base, "m", out=tmp_path / "out", approximate=texts, format="gguf", gguf_type="f32")
    assert report.gguf is not None
    assert report.approximation is not None
    assert read_manifest(tmp_path / "out").approximation is not None


def test_refusals_say_what_to_do(base: addenda.Base, texts: list[Path], tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("the heart")
    with pytest.raises(UnsupportedError, match="--approximate"):
        addenda.merge(base, "m", out=tmp_path / "out")
    with pytest.raises(DataError, match=r"short\.txt.* is too short to tell what is lost.* 8 are needed"):
        addenda.merge(base, "m", out=tmp_path / "out", approximate=[short])
    base.new("lora", addenda.LoRA(2))
    with pytest.raises(AddendaError, match="has a gate beside an FFN to approximate"):
        addenda.merge(base, "lora", out=tmp_path / "out", approximate=texts)
    base.new("slots", addenda.Registers(count=4, gate="context"))
    with pytest.raises(UnsupportedError, match="slots.* cannot be folded"):
        addenda.merge(base, ["m", "slots"], out=tmp_path / "out", approximate=texts)
    assert not (tmp_path / "out").exists()


def test_a_base_without_a_tokenizer_is_told(texts: list[Path], tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"))
    base.new("m", addenda.NeutralResidues(width=6))
    with pytest.raises(AddendaError, match="no tokenizer"):
        addenda.merge(base, "m", out=tmp_path / "out", approximate=texts)


def test_plain_ffns_are_refused_before_anything_is_written(texts: list[Path], tmp_path: Path) -> None:
    base = addenda.attach(pico("gpt2"), pico_tokenizer())
    base.new("m", addenda.NeutralResidues(width=6))
    with pytest.raises(
        UnsupportedError, match="no fold comes near m: its units are gated, and those of this base are not"
    ):
        addenda.merge(base, "m", out=tmp_path / "out", approximate=texts)
    assert not (tmp_path / "out").exists()
