"""Side tensors: kept with a module, found again by their owner, and no part of what it computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import addenda
from addenda.core.errors import FileError
from pico import pico, pico_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.LoRA(rank=2))
    module.keep_beside("fisher", {"layers.0.row": torch.arange(3.0)})
    module.keep_beside("router", {"keys": torch.ones(2, 2, dtype=torch.bfloat16)})
    module.save(tmp_path / "m")
    return tmp_path / "m"


def plugged(folder: Path) -> addenda.KnowledgeModule:
    return addenda.attach(pico("llama"), pico_tokenizer()).plug(folder)


def test_they_come_back_by_owner_and_dtype(folder: Path) -> None:
    module = plugged(folder)
    assert set(module.side) == {"fisher.layers.0.row", "router.keys"}
    assert torch.equal(module.side_of("fisher")["layers.0.row"], torch.arange(3.0))
    assert module.side_of("router")["keys"].dtype == torch.bfloat16
    assert "fisher.layers.0.row" not in module.tensors()
    assert module.side_of("fish") == {}


def test_an_owner_replaces_its_own_alone(folder: Path) -> None:
    module = plugged(folder)
    module.keep_beside("fisher", {"other": torch.zeros(1)})
    assert set(module.side) == {"fisher.other", "router.keys"}
    module.save(folder)
    assert set(plugged(folder).side) == {"fisher.other", "router.keys"}


def test_a_module_without_any_writes_no_file_and_no_field(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2)).save(tmp_path / "m")
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == ["README.md", "card.json", "module.safetensors"]
    assert "side_sha256" not in json.loads((tmp_path / "m" / "card.json").read_text())


def test_saved_again_without_them_the_file_is_gone(folder: Path) -> None:
    module = plugged(folder)
    module.keep_beside("fisher", {})
    module.keep_beside("router", {})
    module.save(folder)
    assert not (folder / "side.safetensors").exists()


def test_a_folder_whose_side_file_was_left_out_loads(folder: Path) -> None:
    (folder / "side.safetensors").unlink()
    assert plugged(folder).side == {}


@pytest.mark.parametrize("how", ["changed", "truncated", "of another module"])
def test_another_file_is_refused(folder: Path, how: str, tmp_path: Path) -> None:
    path = folder / "side.safetensors"
    raw = bytearray(path.read_bytes())
    if how == "truncated":
        del raw[-1:]
    elif how == "changed":
        raw[-1] ^= 1
    else:
        base = addenda.attach(pico("llama"), pico_tokenizer())
        other = base.new("m", addenda.LoRA(rank=2))
        other.keep_beside("fisher", {"a": torch.zeros(2)})
        other.save(tmp_path / "other")
        raw[:] = (tmp_path / "other" / "side.safetensors").read_bytes()
    path.write_bytes(bytes(raw))
    with pytest.raises(FileError, match=r"side\.safetensors"):
        plugged(folder)


def test_nan_is_not_written(folder: Path) -> None:
    module = plugged(folder)
    module.keep_beside("fisher", {"bad": torch.tensor([float("nan")])})
    with pytest.raises(FileError, match=r"fisher\.bad"):
        module.save(folder)
    assert set(plugged(folder).side) == {"fisher.layers.0.row", "router.keys"}
