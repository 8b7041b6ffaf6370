"""Merged models as GGUF files: read back by transformers and by the gguf package, which did not write our layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import addenda
from addenda.combining.gguf.layout import rope_factors
from addenda.combining.gguf.vocabulary import CUTS, vocabulary
from addenda.core.errors import AddendaError, UnsupportedError
from pico import pico, pico_tokenizer, random_ids

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."
#: what transformers does not read from a file of each architecture, though it stands there
UNREAD: dict[str, dict[str, int]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gpt2": {"n_inner": 128, "n_positions": 256},
}


def plugged(arch: str, **fields: Any) -> addenda.Base:
    base = addenda.attach(pico(arch, **fields), pico_tokenizer())
    kind = addenda.LocasMLP if arch == "gpt2" else addenda.LocasGLU
    base.new("book", kind(8, scale=8.0), text=TEXT)
    base.new("lora", addenda.LoRA(2))
    with torch.no_grad():
        for module in base.modules.values():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    return base


def read(folder: Path) -> Any:
    return gguf.GGUFReader(folder / "model.gguf")


@pytest.mark.parametrize("arch", UNREAD)
def test_the_file_alone_computes_what_the_plugged_base_does(arch: str, tmp_path: Path) -> None:
    base = plugged(arch)
    report = addenda.merge(base, ["book", "lora"], out=tmp_path, probe=[TEXT], format="gguf", gguf_type="f32")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["merge.json", "model.gguf"]
    assert report.gguf is not None
    assert report.gguf.difference <= 1e-4
    assert report.bytes == (tmp_path / "model.gguf").stat().st_size
    ids = random_ids(2, 8)  # no longer than a sliding window
    with torch.no_grad(), base.using(["book", "lora"]):
        ours = base.model(input_ids=ids).logits
    config = AutoConfig.from_pretrained(tmp_path, gguf_file="model.gguf", **UNREAD[arch])
    alone = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", config=config, dtype=torch.float32)
    with torch.no_grad():
        theirs = alone(input_ids=ids).logits
    assert (theirs - ours).abs().max() <= 1e-4 * ours.abs().max()
    file = read(tmp_path)
    notes = json.loads(bytes(file.fields["addenda.merge"].parts[-1]))
    assert [one["name"] for one in notes["modules"]] == ["book", "lora"]
    assert notes["proof"]["holds"]
    with pytest.raises(UnsupportedError, match="is a GGUF file"):
        addenda.subtract(tmp_path, "book", out=tmp_path / "without")


@pytest.mark.parametrize(("kind", "most"), [("f16", 2e-3), ("q8_0", 5e-2)])
def test_smaller_numbers_are_measured(kind: str, most: float, tmp_path: Path) -> None:
    base = plugged("llama")
    report = addenda.merge(base, "book", out=tmp_path, probe=[TEXT], format="gguf", gguf_type=kind)
    found = report.gguf
    assert found is not None
    assert 0 < found.difference < most
    assert found.loss_written != found.loss
    assert found.as_dict() == json.loads((tmp_path / "merge.json").read_text())["gguf"]
    assert f"{found.loss_written - found.loss:+.4f}" in str(report)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in read(tmp_path).tensors}
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["blk.0.ffn_down.weight"] == kind.upper()
    # whoever reads the file gets the same loss: a quantised file is worth what was said of it
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    row = torch.tensor(base.tokenizer(TEXT)["input_ids"])[None]
    with torch.no_grad():
        assert float(again(input_ids=row, labels=row).loss) == pytest.approx(found.loss_written, abs=1e-4)


def test_rows_that_fit_no_block_stay_in_f16(tmp_path: Path) -> None:
    base = plugged("llama")
    report = addenda.merge(base, "book", out=tmp_path, multiple=4, probe=[TEXT], format="gguf", gguf_type="q8_0")
    assert report.width == (96, 104)
    assert report.gguf is not None
    assert report.gguf.kept == 3
    assert {t.tensor_type.name for t in read(tmp_path).tensors if "ffn_down" in t.name} == {"F16"}


@pytest.mark.parametrize("which", ["pico", pytest.param("tiny", marks=pytest.mark.slow)])  # 8,192 tokens take long
def test_the_tokenizer_goes_along(which: str, tmp_path: Path) -> None:
    base = addenda.load_base("tiny") if which == "tiny" else addenda.attach(pico("llama"), pico_tokenizer())
    base.new("lora", addenda.LoRA(2))
    addenda.merge(base, "lora", out=tmp_path, format="gguf", gguf_type="f16", probe=[TEXT])
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    more = ("naïve — 日本\n\n  two  spaces",) if which == "tiny" else ()  # the other knows ASCII alone
    for text in ("Aspirin, 75 mg daily; it's 3.5% of 1000.", TEXT, *more):
        ours = base.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours
    file = read(tmp_path)

    def value(key: str) -> Any:
        return file.fields[key].contents()

    assert value("tokenizer.ggml.pre") == "gpt-2"
    assert value("tokenizer.ggml.bos_token_id") == base.tokenizer.bos_token_id
    assert value("tokenizer.ggml.add_bos_token") is (base.tokenizer("a")["input_ids"][0] == base.tokenizer.bos_token_id)
    assert len(value("tokenizer.ggml.tokens")) == base.model.config.vocab_size
    assert value("llama.feed_forward_length") == base.model.config.intermediate_size


def pieces() -> Any:
    """A small tokenizer of sentence pieces, as Llama 2 has one: merges of characters, what is unknown in bytes."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{n:02X}>" for n in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    said = json.loads(made.to_str())
    said["added_tokens"] = said["added_tokens"][:3]
    made = Tokenizer.from_str(json.dumps(said))
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def test_sentence_pieces_are_written_with_scores(tmp_path: Path) -> None:
    tokenizer = pieces()
    base = addenda.attach(pico("llama", vocab_size=352), tokenizer)
    base.new("lora", addenda.LoRA(2))
    addenda.merge(base, "lora", out=tmp_path, format="gguf", gguf_type="f16", probe=[TEXT])
    found = vocabulary(tokenizer, 352)
    assert (found.model, found.space_before) == ("llama", True)
    assert found.types[:4] == [2, 3, 3, 6]
    assert found.types[-1] == 5  # rows of the embedding that no token has
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in (TEXT, "the needs of the air"):
        assert (
            theirs(text, add_special_tokens=False)["input_ids"]
            == tokenizer(text, add_special_tokens=False)["input_ids"]
        )


@pytest.mark.parametrize(("pattern", "name"), [item for item in CUTS.items() if "gpt2" not in item[0]])
def test_how_text_is_cut_is_told_by_name(pattern: str, name: str) -> None:
    made = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    assert vocabulary(PreTrainedTokenizerFast(tokenizer_object=made), 3).cut == name


def test_what_llama_cpp_has_no_name_for_is_refused(tmp_path: Path) -> None:
    made = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])
    with pytest.raises(UnsupportedError, match="no name for"):
        vocabulary(PreTrainedTokenizerFast(tokenizer_object=made), 1)
    words = Tokenizer(models.WordLevel({"a": 0}, "a"))
    with pytest.raises(UnsupportedError, match="merges pairs"):
        vocabulary(PreTrainedTokenizerFast(tokenizer_object=words), 1)
    base = addenda.attach(pico("gemma2"), pico_tokenizer())
    base.new("lora", addenda.LoRA(2))
    with pytest.raises(UnsupportedError, match="no GGUF is written for 'gemma2'; for gpt2"):
        addenda.merge(base, "lora", out=tmp_path / "x", format="gguf")
    base = plugged("gpt2", activation_function="relu")
    with pytest.raises(UnsupportedError, match="runs GPT-2 with gelu_new; this base has 'relu'"):
        addenda.merge(base, "lora", out=tmp_path / "x", format="gguf")
    base = plugged("llama")
    with pytest.raises(AddendaError, match="one of f16, f32, q8_0"):
        addenda.merge(base, "lora", out=tmp_path / "x", format="gguf", gguf_type="q4")
    with pytest.raises(AddendaError, match="checkpoint, gguf"):
        addenda.merge(base, "lora", out=tmp_path / "x", format="onnx")  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_stretched_positions_of_llama_3_are_written() -> None:
    given = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    model = pico("llama", rope_parameters=given)
    plain = pico("llama", rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    factors = rope_factors(model.config)
    assert factors is not None
    expected = (plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq).numpy()
    np.testing.assert_allclose(factors, expected, rtol=1e-5)
    assert len(set(factors.round(3).tolist())) > 2
    assert rope_factors(plain.config) is None
    base = plugged("llama", rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0})
    with pytest.raises(UnsupportedError, match="positions of type 'yarn'"):
        addenda.merge(base, "lora", out="never", format="gguf")
