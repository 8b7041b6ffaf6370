"""A base from a GGUF file merges as any other, also where transformers loaded it and would not save it; and faults come early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import addenda
from addenda.combining import checkpoint_files
from addenda.core.errors import AddendaError
from ggufs import exported
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."


def with_modules(base: addenda.Base) -> addenda.Base:
    base.new(
        "book", addenda.LocasMLP(8, scale=8.0) if base.anatomy.model_type == "gpt2" else addenda.LocasGLU(8), text=TEXT
    )
    base.new("lora", addenda.LoRA(2))
    with torch.no_grad():
        for module in base.modules.values():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    return base


def by_transformers(file: Path) -> addenda.Base:
    """As somebody loads it who does not know `load_base`."""
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return addenda.attach(model, pico_tokenizer())


@pytest.mark.parametrize("format", ["checkpoint", "gguf"])
@pytest.mark.parametrize("load", [addenda.load_base, by_transformers], ids=["load_base", "transformers"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_it_merges(arch: str, load: Any, format: Any, tmp_path: Path) -> None:
    base = with_modules(load(exported(tmp_path / "m", arch)))
    before = base.model.config.to_dict()
    report = addenda.merge(base, ["book", "lora"], out=tmp_path / "out", probe=[TEXT], format=format, gguf_type="f32")
    assert report.proof is not None
    assert report.proof.holds
    assert report.proof.difference <= 1e-4
    assert base.model.config.to_dict() == before
    merged = addenda.load_base(tmp_path / "out" if format == "checkpoint" else tmp_path / "out" / "model.gguf")
    assert "quantization_config" not in merged.model.config.to_dict()
    ids = base.tokenize(TEXT)[None]
    with torch.no_grad(), base.using(["book", "lora"]):
        ours = base.model(ids).logits
    assert (merged.model(ids).logits - ours).abs().max() <= 1e-4 * ours.abs().max()
    assert merged.tokenizer(TEXT)["input_ids"] == base.tokenizer(TEXT)["input_ids"]


def test_half_precision_is_proved_too(tmp_path: Path) -> None:
    base = with_modules(by_transformers(exported(tmp_path / "m")))
    report = addenda.merge(base, ["book"], out=tmp_path / "out", probe=[TEXT], dtype="bfloat16")
    assert report.proof is not None
    assert report.proof.holds


def test_transformers_trainer_trains_a_module_on_it(tmp_path: Path) -> None:
    base = by_transformers(exported(tmp_path / "m"))
    assert base.model.is_quantized  # Trainer refuses such a model itself
    base.new("m", addenda.LoRA(2))
    ids = base.tokenize(TEXT)
    data: Any = [{"input_ids": ids, "labels": ids}] * 4
    before = base.fingerprint
    arguments = TrainingArguments(str(tmp_path / "out"), max_steps=2, report_to=[], use_cpu=True, save_strategy="no")
    Trainer(model=base.trainable("m"), args=arguments, train_dataset=data).train()
    assert any(bool(p.any()) for name, p in base.modules["m"].named_parameters() if name.endswith("b"))
    assert addenda.fingerprint(base.model) == before


# --- what cannot be saved is told before the weights are written ------------------------------------------------------


def beams(base: addenda.Base) -> None:
    base.model.generation_config.num_beams, base.model.generation_config.num_return_sequences = 1, 3


def temperature(base: addenda.Base) -> None:
    base.model.generation_config.do_sample, base.model.generation_config.temperature = False, 0.5


def no_json(base: addenda.Base) -> None:
    base.model.config.notes = {"made by": object()}


def bad_tokenizer(base: addenda.Base) -> None:
    base.tokenizer.init_kwargs["made_by"] = object()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (beams, r"generation_config \(.*num_return_sequences.*\); mend it first \(base\.model\.generation_config\)"),
        (temperature, r"generation_config \(.*temperature.*\); mend it first \(base\.model\.generation_config\)"),
        (no_json, r"configuration \(.*\); mend it first \(base\.model\.config\)"),
        (bad_tokenizer, r"tokenizer \(.*\); mend it first \(base\.tokenizer\)"),
    ],
    ids=["beams", "temperature", "configuration", "tokenizer"],
)
def test_what_cannot_be_saved_is_told_before_a_weight_is_written(
    spoil: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = with_modules(addenda.attach(pico("llama"), pico_tokenizer()))
    spoil(base)
    monkeypatch.setattr(checkpoint_files, "_write_weights", lambda *_: pytest.fail("weights were written"))
    with pytest.raises(AddendaError, match=f"nothing was merged: transformers will not save the base's {told}"):
        addenda.merge(base, "lora", out=tmp_path / "out", probe=[TEXT])
    assert not (tmp_path / "out").exists()
