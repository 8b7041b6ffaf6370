"""Inspection: cards and sizes without a base, activity with one, and what a base offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda import AddendaError
from addenda.core.errors import FileError, UnsupportedError
from addenda.measuring.looking.inspection import BaseInspection, ModuleInspection, inspect
from pico import pico, pico_tokenizer


@pytest.fixture
def base() -> Any:
    return addenda.attach(pico("llama"), pico_tokenizer(), name="pico")


def test_a_folder_is_read_without_a_base(base: Any, tmp_path: Path) -> None:
    module = base.new("m", addenda.NeutralResidues(width=8, gate="context"))
    module.save(tmp_path / "m")
    found = inspect(tmp_path / "m")
    assert isinstance(found, ModuleInspection)
    assert found.card.kind == "NeutralResidues"
    assert [part.at for part in found.parts] == ["layer 1", "layer 2", "gate"]
    assert sum(part.numbers for part in found.parts) == module.size() + 2  # the threshold is a buffer
    assert found.dtype == "float32"
    assert found.activity is None


def test_a_text_needs_the_base_which_is_left_as_it_was(base: Any, tmp_path: Path) -> None:
    base.new("m", addenda.NeutralResidues(width=8)).save(tmp_path / "m")
    with pytest.raises(AddendaError, match="only be looked at with its base"):
        inspect(tmp_path / "m", text="the lane")
    found = inspect(tmp_path / "m", base=base, text="the lane")
    assert isinstance(found, ModuleInspection)
    assert found.activity is not None
    assert found.card.name == "m"
    assert list(base.modules) == ["m"]
    with pytest.raises(FileError, match="wrong base"):
        inspect(tmp_path / "m", base=addenda.attach(pico("llama", seed=1), pico_tokenizer()), text="x")


def test_a_base_says_what_it_offers(base: Any) -> None:
    found = inspect(base)
    assert isinstance(found, BaseInspection)
    assert (found.name, found.dtype, found.device, found.refusals) == ("pico", "float32", "cpu", {})
    assert found.fingerprint == base.fingerprint
    assert found.as_dict()["sites"]["attention"][0] == "layers.0.attention"


def test_a_text_for_a_base_is_refused(base: Any) -> None:
    with pytest.raises(AddendaError, match="give the module's folder"):
        inspect(base, text="the lane")


def test_a_folder_that_is_no_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"card\.json"):
        inspect(tmp_path)


def test_what_stands_beside_a_module_is_told(base: Any, tmp_path: Path) -> None:
    module = base.new("m", addenda.LoRA(rank=2))
    module.keep_beside("router.nearest", {"mean": torch.ones(3), "record": torch.zeros(2, dtype=torch.uint8)})
    module.keep_beside("moments", {"layers.0.q": torch.ones(4)})
    module.save(tmp_path / "m")
    found = inspect(tmp_path / "m")
    assert isinstance(found, ModuleInspection)
    assert found.beside == {"router": 14, "moments": 16}
    assert found.turns is None


def test_a_text_memory_is_looked_at_by_what_it_holds(base: Any, tmp_path: Path) -> None:
    base.new("talk", addenda.HEMA())
    base.remember("talk", "We meet on Monday.", "Ann brings the maps.")
    base.modules["talk"].save(tmp_path / "talk")
    found = inspect(tmp_path / "talk")
    assert isinstance(found, ModuleInspection)
    assert (found.turns, found.parts, found.beside) == (2, (), {})
    with pytest.raises(UnsupportedError, match="'talk' is text in the window"):
        inspect(tmp_path / "talk", base=base, text="the lane")
    assert list(base.modules) == ["talk"]
    (tmp_path / "talk" / "memory.json").write_text("{}")
    with pytest.raises(FileError, match="not the file that the card describes"):
        inspect(tmp_path / "talk")
