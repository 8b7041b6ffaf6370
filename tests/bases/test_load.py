"""A base that cannot be loaded whole is refused in one sentence that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from pico import ARCHS, pico, pico_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pico("llama").save_pretrained(tmp_path)
    pico_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def configured(folder: Path, **fields: Any) -> None:
    """Change a saved config."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("arch", ARCHS)
def test_what_was_saved_is_whole(arch: str, tmp_path: Path) -> None:
    pico(arch).save_pretrained(tmp_path)
    pico_tokenizer().save_pretrained(tmp_path)
    base = addenda.load_base(tmp_path)
    assert base.name == tmp_path.name
    assert not base.model.training
    for (name, saved), (_, loaded) in zip(pico(arch).named_parameters(), base.model.named_parameters(), strict=True):
        assert torch.equal(saved, loaded), name


def test_the_tokenizer_comes_from_where_the_model_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    asked, original = {}, AutoTokenizer.from_pretrained
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda name, **given: asked.update(given) or original(name))
    addenda.load_base(folder, revision="v1", cache_dir=str(folder), attn_implementation="eager")
    assert asked == {"revision": "v1", "cache_dir": str(folder)}


@pytest.mark.parametrize("content", [b"", b"\xff" * 400, None], ids=["empty", "no header", "cut off"])
def test_a_damaged_weight_file(folder: Path, content: bytes | None) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(AddendaError, match=r"cannot load the base '.*': transformers cannot load .*SafetensorError"):
        addenda.load_base(folder)


def test_weights_of_other_shapes(folder: Path) -> None:
    configured(folder, intermediate_size=112)
    told = r"other shapes than config\.json wants in 9 tensors: .*0\.mlp\.down_proj\.weight \[64, 96\] for \[64, 112\]"
    with pytest.raises(AddendaError, match=told):
        addenda.load_base(folder)


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    configured(folder, num_hidden_layers=4)
    with pytest.raises(AddendaError, match=r"have no values for 9 tensors: model\.layers\.3\.input_layernorm\.weight"):
        addenda.load_base(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_attention_heads": 0},
        {"hidden_act": "nonsense"},
        {"hidden_size": "wide"},
        {"dtype": "nonsense"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},  # its package is not installed
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_config_that_transformers_cannot_build(folder: Path, fields: dict[str, Any]) -> None:
    configured(folder, **fields)
    with pytest.raises(AddendaError, match="transformers cannot load what is in that folder"):
        addenda.load_base(folder)


@pytest.mark.parametrize("content", [None, '{"a": 1}'], ids=["missing", "malformed"])
def test_a_tokenizer_is_blamed_for_itself(folder: Path, content: str | None) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(AddendaError, match=r"cannot load the tokenizer of the base .*addenda\.attach") as told:
        addenda.load_base(folder)
    assert "cannot load the base" not in str(told.value)


def test_nothing_of_that_name() -> None:
    with pytest.raises(
        AddendaError, match=r"cannot load the base 'no/where': it is not one of tiny, smollm2, gemma3, there"
    ):
        addenda.load_base("no/where")


def test_tiny_is_computed_in_float32_if_nothing_is_said() -> None:
    assert addenda.load_base("tiny").model.dtype == torch.float32
    assert addenda.load_base("tiny", dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_modules_folder_is_no_base(tmp_path: Path) -> None:
    addenda.load_base("tiny").new("m", addenda.LoRA(2)).save(tmp_path / "m")
    with pytest.raises(AddendaError, match="that folder is a module's; plug it"):
        addenda.load_base(tmp_path / "m")
