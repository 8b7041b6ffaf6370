"""Module folders of earlier versions load, and give the logits that they gave when they were written.

tests/fixtures/write_modules.py wrote them, with the sources of their version.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import addenda
from addenda.modulefile.storage import read_card
from conformance.world import batch, close, logits
from pico import pico, pico_tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOLDERS = sorted(card.parent for version in FIXTURES.glob("modules_*") for card in version.glob("*/card.json"))


@cache
def base_of(version: Path, arch: str) -> addenda.Base:
    """The base that a version's modules were made for."""
    model = pico(arch)
    weights = load_file(version / f"{arch}.safetensors")
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    model.tie_weights()
    return addenda.attach(model, pico_tokenizer())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_an_old_folder_gives_the_logits_it_gave(folder: Path) -> None:
    base = base_of(folder.parent, read_card(folder).base.model_type)
    expected = load_file(folder.parent / "expected.safetensors")[folder.name]
    bare = logits(base.model, *batch(padded=True))
    module = base.plug(folder, name="old")
    try:
        with base.using("old"):
            close(logits(base.model, *batch(padded=True)), expected)
        assert float((expected - bare).abs().max()) > 1e-2
        assert module.side == {}
    finally:
        base.unplug("old")
    assert torch.equal(logits(base.model, *batch(padded=True)), bare)


def test_every_kind_of_the_first_version_is_there() -> None:
    kinds = {read_card(folder).kind for folder in FOLDERS if folder.parent.name == "modules_0_1"}
    assert kinds == {"Registers", "Cartridge", "NeutralResidues", "ParallelAdapter", "LoRA", "LocasGLU", "LocasMLP"}


@pytest.mark.parametrize("folder", FOLDERS[:3], ids=lambda folder: folder.name)
def test_an_old_folder_saved_again_is_the_same_tensors(folder: Path, tmp_path: Path) -> None:
    base = base_of(folder.parent, read_card(folder).base.model_type)
    base.plug(folder, name="old").save(tmp_path / "m")
    base.unplug("old")
    assert (tmp_path / "m" / "module.safetensors").read_bytes() == (folder / "module.safetensors").read_bytes()
