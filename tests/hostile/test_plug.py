"""The same through the front door: `base.plug` refuses, says why, and leaves the base as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import addenda
from addenda.core.errors import FileError
from hostile.forge import TENSORS, edit_card, edit_header, sign
from pico import pico, random_ids


def nan(folder: Path) -> None:
    tensors = load_file(folder / TENSORS)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, folder / TENSORS, metadata={"format": "addenda", "schema": "1"})
    sign(folder)


def claim(folder: Path) -> None:
    edit_header(lambda h: next(v for k, v in h.items() if k != "__metadata__").update(shape=[10**9]))(folder)


FORGERIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (nan, "NaN or infinite values"),
    "claim": (
        edit_header(lambda h: next(v for k, v in h.items() if k[0] != "_").update(shape=[10**9])),
        "offsets span",
    ),
    "kind": (edit_card(lambda c: c.update(kind="Regisers")), "did you mean 'Registers'"),
    "schema": (edit_card(lambda c: c.update(schema_version=2)), "upgrade addenda"),
    "size": (edit_card(lambda c: c["config"].update(rank=10**9)), "wrong shape"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_folder_is_not_plugged(name: str, tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"))
    ids = random_ids(1, 5)
    before = base.model(ids).logits
    base.new("note", addenda.LoRA(rank=2)).save(tmp_path / "m")
    base.unplug("note")
    forge, cause = FORGERIES[name]
    forge(tmp_path / "m")
    with pytest.raises(FileError, match=cause):
        base.plug(tmp_path / "m")
    assert not base.modules
    assert torch.equal(base.model(ids).logits, before)


def test_a_module_of_another_base_is_not_plugged_unless_told_to(tmp_path: Path) -> None:
    addenda.attach(pico("llama")).new("note", addenda.LoRA(rank=2)).save(tmp_path / "m")
    other = addenda.attach(pico("llama", seed=1))
    with pytest.raises(FileError, match="wrong base"):
        other.plug(tmp_path / "m")
    with pytest.warns(UserWarning, match="wrong base"):
        other.plug(tmp_path / "m", check="warn")
    assert list(other.modules) == ["note"]


@pytest.mark.parametrize("arch", ["gpt2", "qwen3", "opt"])
def test_a_module_of_another_architecture_is_one_line(arch: str, tmp_path: Path) -> None:
    """Not seventy tensors that do not fit: they are no further mistakes."""
    addenda.attach(pico("llama")).new("note", addenda.LoRA(rank=2)).save(tmp_path / "m")
    with pytest.raises(FileError, match=rf"wrong base: .* its architecture is another: model_type is '{arch}'") as told:
        addenda.attach(pico(arch)).plug(tmp_path / "m")
    assert "\n" not in str(told.value)
    assert "tensor" not in str(told.value)
    assert len(str(told.value)) < 600


def test_nothing_there_is_told_as_such(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"))
    with pytest.raises(FileError, match="there is no folder"):
        base.plug(tmp_path / "nothing")
    with pytest.raises(FileError, match=r"(?s)card\.json is missing.*module\.safetensors is missing"):
        base.plug(tmp_path)
