"""A module on another base than its own: one line that says what differs, and what it costs when it is plugged all the same."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError, FileError
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."


def saved(folder: Path, base: addenda.Base, kind: Any = None) -> Path:
    module = base.new("note", kind or addenda.LoRA(rank=2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.3)
    return module.save(folder / "note")


def refusal(folder: Path, base: addenda.Base) -> str:
    with pytest.raises(FileError) as told:
        base.plug(folder)
    assert "\n" not in str(told.value)
    return str(told.value)


def attached(arch: str = "llama", **fields: Any) -> addenda.Base:
    return addenda.attach(pico(arch, **fields), pico_tokenizer(), name=arch)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "shallower": ({"num_hidden_layers": 2}, "num_hidden_layers is 2, and was 3"),
    "wider FFN": ({"intermediate_size": 128}, "intermediate_size is 128, and was 96"),
    "positions": (
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
        r"rope_parameters is {.*'linear'.*}, and was {.*'default'.*}",
    ),
    "activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu', and was 'silu'"),
    "many": (
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1},
        "; and 1 more",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_architecture_is_compared_field_by_field(other: str, tmp_path: Path) -> None:
    fields, told = OTHERS[other]
    said = refusal(saved(tmp_path, attached()), attached(**fields))
    assert re.search("wrong base: .*its architecture is another: .*" + told, said), said
    assert "check=" not in said  # it does not fit, whatever is checked
    assert len(said) < 700


@pytest.mark.parametrize("how", ["fine-tuned", "float16", "rounded"])
def test_the_same_architecture_with_other_weights_says_so(how: str, tmp_path: Path) -> None:
    folder, model = saved(tmp_path, attached()), pico("llama", seed=int(how == "fine-tuned"))
    if how == "float16":
        model = model.half()
    with torch.no_grad():
        if how == "rounded":
            for parameter in model.parameters():
                parameter.copy_((parameter * 32).round() / 32)
    said = refusal(folder, addenda.attach(model))
    assert "same architecture, other weights: " in said
    assert "quantised or dequantised copy" in said
    assert "check='warn'" in said


def grown(seed: int, tokens: int = 136) -> addenda.Base:
    """A base whose embeddings were resized, as people do after adding tokens: the new rows are drawn."""
    torch.manual_seed(seed)
    model = pico("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.resize_token_embeddings(tokens, mean_resizing=False)
    return addenda.attach(model)


def test_rows_that_are_drawn_anew_are_told_as_the_cause(tmp_path: Path) -> None:
    said = refusal(saved(tmp_path, grown(0)), grown(1))
    assert "the same model but for its embeddings: rows of added tokens are drawn anew" in said
    assert "Save the resized model once (save_pretrained)" in said
    with pytest.warns(UserWarning, match="rows of added tokens"):
        grown(1).plug(tmp_path / "note", check="warn")
    grown(0).plug(tmp_path / "note")  # the very rows


@pytest.mark.parametrize(("there", "here"), [(136, 128), (128, 136), (136, 144)])
def test_another_number_of_tokens_is_told(there: int, here: int, tmp_path: Path) -> None:
    first, second = (attached() if n == 128 else grown(0, n) for n in (there, here))
    said = refusal(saved(tmp_path, first), second)
    assert f"embeddings for {here} tokens, where it had {there}: add the same tokens and resize" in said


@pytest.mark.parametrize("kind", [addenda.LoRA(2), addenda.NeutralResidues(extra=0.2), addenda.Registers(2)], ids=str)
def test_a_resize_after_attach_is_noticed(kind: Any, tmp_path: Path) -> None:
    base = attached()
    before = (base.fingerprint, base.anatomy.parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base.model.resize_token_embeddings(136, mean_resizing=False)
    assert base.fingerprint == addenda.fingerprint(base.model) != before[0]
    assert base.anatomy.parameters == sum(p.numel() for p in base.model.parameters()) > before[1]
    folder = saved(tmp_path, base, kind)
    base.model.save_pretrained(tmp_path / "resized")
    addenda.attach(type(base.model).from_pretrained(tmp_path / "resized")).plug(folder)


def test_cards_of_the_first_version_tell_type_and_size(tmp_path: Path) -> None:
    folder = saved(tmp_path, attached())
    card = json.loads((folder / "card.json").read_text())
    del card["base"]["architecture"], card["base"]["body"]
    (folder / "card.json").write_text(json.dumps(card))
    assert "number of parameters is" in refusal(folder, attached(num_hidden_layers=2))
    assert "model_type is 'gpt2', and was 'llama'" in refusal(folder, attached("gpt2"))
    assert "same architecture, other weights" in refusal(folder, attached(seed=1))
    addenda.attach(pico("llama")).plug(folder)


# --- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(TEXT, id="a text"),
        pytest.param([TEXT, "The man."], id="a list"),
        pytest.param("general_valid", id="a sample", marks=pytest.mark.slow),
    ],
)
def test_a_text_tells_what_the_module_does_here(source: Any, tmp_path: Path) -> None:
    folder, base = saved(tmp_path, attached()), attached(seed=1)
    if source == "general_valid":
        folder = saved(tmp_path / "b", addenda.load_base("tiny"))
        base = addenda.load_base("tiny", dtype=torch.float16)
        base.model.float()
        with torch.no_grad():
            next(base.model.parameters()).mul_(1.01)
    with pytest.warns(UserWarning, match="wrong base"), pytest.warns(UserWarning, match="nats per token with 'note'"):
        base.plug(folder, check="warn", text=source)
    cost = addenda.plug_cost(base, "note", source)
    with base.off():
        assert cost.bare == addenda.perplexity(base, [source] if source is TEXT else source, tokens=20_000).nats
    with base.using("note"):
        assert cost.plugged == addenda.perplexity(base, [source] if source is TEXT else source, tokens=20_000).nats
    assert cost.change == pytest.approx(cost.plugged - cost.bare)
    assert cost.change != 0
    assert json.dumps(cost.as_dict())
    assert base.selection.empty


@pytest.mark.parametrize("name", ["my texts/held out.txt", "held.txt"])
def test_a_file_is_read_whatever_its_name(name: str, tmp_path: Path) -> None:
    base = attached()
    saved(tmp_path, base)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(TEXT)
    with base.off():
        assert addenda.plug_cost(base, "note", str(path)).bare == addenda.perplexity(base, [TEXT]).nats


def test_on_its_own_base_nothing_is_told(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attached().plug(saved(tmp_path, attached()), check="warn", text=TEXT)


def test_mistakes(tmp_path: Path) -> None:
    folder, base = saved(tmp_path, attached()), attached(seed=1)
    with pytest.raises(AddendaError, match="text is for check='warn'"):
        base.plug(folder, text=TEXT)
    with pytest.warns(UserWarning, match="wrong base"), pytest.raises(DataError):
        base.plug(folder, check="warn", text="no-such-file.txt")
    assert not base.modules
    with pytest.raises(AddendaError, match="no module 'nota' is plugged"):
        addenda.plug_cost(base, "nota", TEXT)
