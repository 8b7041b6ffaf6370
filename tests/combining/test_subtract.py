"""Subtract: what was folded as units comes out again, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import addenda
from addenda.combining.manifest import read_manifest
from addenda.core.errors import AddendaError, FileError, UnsupportedError
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."
ARCHS = ("llama", "phi3", "gemma2", "gpt2", "opt", "gpt_neox")


def with_memories(arch: str, dtype: torch.dtype = torch.float32) -> addenda.Base:
    """A base with two memories, `a` on all layers and `b` on two, and a LoRA `c`."""
    base = addenda.attach(pico(arch, dtype=dtype), pico_tokenizer())
    kind = addenda.LocasGLU if base.anatomy.ffn is not None and base.anatomy.ffn.gated else addenda.LocasMLP
    base.new("a", kind(8, scale=8.0, init="top"), text=TEXT)
    base.new("b", kind(4, scale=8.0, init="random", layers=(0, 2)), seed=1)
    base.new("c", addenda.LoRA(2))
    with torch.no_grad():
        for module in base.modules.values():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return base


def state(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()


@pytest.mark.parametrize("arch", ARCHS)
def test_the_base_comes_back_bit_for_bit(arch: str, tmp_path: Path) -> None:
    base = with_memories(arch)
    addenda.merge(base, ["a", "b"], out=tmp_path / "both")
    report = addenda.subtract(tmp_path / "both", ["a", "b"], out=tmp_path / "none")
    assert (report.restored, report.exact, report.remaining) == (True, True, ())
    assert report.width == (128, 96)
    restored = state(tmp_path / "none")
    assert all(torch.equal(tensor, restored[name]) for name, tensor in base.model.state_dict().items())


@pytest.mark.parametrize("arch", ARCHS)
def test_one_of_two_comes_out_as_if_it_had_never_been_in(arch: str, tmp_path: Path) -> None:
    base = with_memories(arch)
    addenda.merge(base, ["a", "b"], out=tmp_path / "both", multiple=8)
    addenda.merge(base, ["b"], out=tmp_path / "b", multiple=8)
    report = addenda.subtract(tmp_path / "both", "a", out=tmp_path / "left")
    assert (report.restored, report.remaining, report.width) == (False, ("b",), (112, 104))
    only, left = state(tmp_path / "b"), state(tmp_path / "left")
    assert only.keys() == left.keys()
    assert all(torch.equal(tensor, left[name]) for name, tensor in only.items())
    assert read_manifest(tmp_path / "left").units == read_manifest(tmp_path / "b").units
    again = addenda.subtract(tmp_path / "left", "b", out=tmp_path / "none")
    assert again.restored


def test_what_was_added_to_matrices_stays_in_and_is_refused(tmp_path: Path) -> None:
    base = with_memories("llama")
    addenda.merge(base, ["a", "c"], out=tmp_path / "both")
    with pytest.raises(UnsupportedError, match="rounding cannot be undone"):
        addenda.subtract(tmp_path / "both", "c", out=tmp_path / "none")
    report = addenda.subtract(tmp_path / "both", "a", out=tmp_path / "left")
    assert report.remaining == ("c",)
    addenda.merge(base, "c", out=tmp_path / "c")
    only, left = state(tmp_path / "c"), state(tmp_path / "left")
    assert all(torch.equal(tensor, left[name]) for name, tensor in only.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_coarser_merge_is_said_to_be_one(tmp_path: Path, dtype: torch.dtype) -> None:
    base = with_memories("llama")
    addenda.merge(base, "a", out=tmp_path / "coarse", dtype=dtype)
    report = addenda.subtract(tmp_path / "coarse", "a", out=tmp_path / "none")
    assert (report.restored, report.exact) == (True, False)
    assert "not the base's own" in str(report)
    restored = state(tmp_path / "none")
    assert all(torch.equal(tensor.to(dtype), restored[name]) for name, tensor in base.model.state_dict().items())


def test_a_configuration_that_says_nothing_of_the_size_says_nothing_again(tmp_path: Path) -> None:
    """GPT-2's own checkpoints have n_inner null, for four times the width."""
    base = addenda.attach(pico("gpt2", n_inner=None), pico_tokenizer())
    base.new("a", addenda.LocasMLP(8, init="random"))
    base.modules["a"].adapter("layers.1.ffn").values.data.normal_(std=0.1)  # type: ignore[operator, union-attr]
    report = addenda.merge(base, "a", out=tmp_path / "merged")
    assert report.width == (256, 320)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["n_inner"] == 320
    assert addenda.subtract(tmp_path / "merged", "a", out=tmp_path / "none").restored
    assert json.loads((tmp_path / "none" / "config.json").read_text())["n_inner"] is None


def test_a_checkpoint_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    base = with_memories("llama")
    addenda.merge(base, "a", out=tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[:96] += 0.25
    model.save_pretrained(tmp_path / "merged")
    with pytest.raises(AddendaError, match="nothing was written"):
        addenda.subtract(tmp_path / "merged", "a", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_mistakes_are_told(tmp_path: Path) -> None:
    base = with_memories("llama")
    addenda.merge(base, "a", out=tmp_path / "merged")
    with pytest.raises(AddendaError, match="no module 'b' was merged"):
        addenda.subtract(tmp_path / "merged", "b", out=tmp_path / "none")
    with pytest.raises(AddendaError, match="name of a merged module"):
        addenda.subtract(tmp_path / "merged", [], out=tmp_path / "none")
    manifest = json.loads((tmp_path / "merged" / "merge.json").read_text())
    (tmp_path / "merged" / "merge.json").write_text(
        json.dumps(manifest | {"units": {"0": [["a", "x", 3]]}, "width": 3})
    )
    with pytest.raises(FileError, match="2 things are wrong"):
        addenda.subtract(tmp_path / "merged", "a", out=tmp_path / "none")
    base.model.save_pretrained(tmp_path / "plain")
    with pytest.raises(FileError, match="no checkpoint that addenda merged"):
        addenda.subtract(tmp_path / "plain", "a", out=tmp_path / "none")
