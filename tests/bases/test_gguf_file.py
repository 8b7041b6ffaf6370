"""A GGUF file is a base like any other: what it computes, its fingerprint, its tokenizer; and every fault in one sentence."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import addenda
from addenda.bases import gguf_file
from addenda.bases.gguf_header import read_header
from addenda.combining.gguf.vocabulary import vocabulary
from addenda.core.errors import AddendaError, UnsupportedError
from ggufs import exported, written
from pico import pico, pico_tokenizer, random_ids

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "an epsilon": ("llama", {"rms_norm_eps": 1e-5}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "longer": ("llama", {"max_position_embeddings": 512}),
    "stretched as Llama 3": ("llama", {"rope_parameters": LLAMA3}),
    "stretched": ("qwen2", {"rope_parameters": LINEAR}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gpt2": ("gpt2", {}),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return exported(tmp_path / "m")


@pytest.mark.parametrize("which", MODELS)
def test_a_file_is_the_base_that_it_was_written_from(which: str, tmp_path: Path) -> None:
    arch, fields = MODELS[which]
    model = pico(arch, **fields)
    if arch == "qwen2":
        del model.config.head_dim  # which its own configurations do not have
    base = addenda.load_base(exported(tmp_path / "m", arch, **fields))
    ids = random_ids(2, 40)
    assert torch.equal(base.model(ids).logits, model(ids).logits)
    assert base.fingerprint == addenda.fingerprint(model)
    assert base.name == "model.gguf"
    assert base.model.dtype == torch.float32
    assert not base.model.training
    assert base.context == model.config.max_position_embeddings


def as_llama_cpp(path: Path, name: str, model: Any) -> Path:
    """As the tools of llama.cpp write what our export does not: Gemma's norms with one added, experts in one tensor."""
    config, writer = model.config, gguf.GGUFWriter(path, name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters.get("full_attention") or config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if "factor" in rope:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if name.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    if name == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if name == "qwen3moe":
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    vocabulary(pico_tokenizer(), config.vocab_size).write(writer, pico_tokenizer())
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for key, parameter in model.named_parameters():
        value = parameter.detach() + 1 if "norm" in key and name.startswith("gemma") else parameter.detach()
        layer = "".join(key.split(".")[2:3])
        if key.endswith("experts.gate_up_proj"):
            gate, up = value.chunk(2, dim=1)
            writer.add_tensor(f"blk.{layer}.ffn_gate_exps.weight", gate.contiguous().numpy())
            writer.add_tensor(f"blk.{layer}.ffn_up_exps.weight", up.contiguous().numpy())
        elif key.endswith("experts.down_proj"):
            writer.add_tensor(f"blk.{layer}.ffn_down_exps.weight", value.numpy())
        else:
            writer.add_tensor(names.get_name(key, try_suffixes=(".weight",)), value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SEVEN = [*["sliding_attention"] * 5, "full_attention", "sliding_attention"]
STRETCHED = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gemma3": ("gemma3", "gemma3", {"num_hidden_layers": 7, "layer_types": SEVEN, "rope_parameters": STRETCHED}),
    "gemma2": ("gemma2", "gemma2", {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "phi3": ("phi3", "phi3", {}),
    "experts": ("qwen3_moe", "qwen3moe", {"norm_topk_prob": True}),
}


@pytest.mark.parametrize("which", OTHERS)
def test_files_that_other_tools_write(which: str, tmp_path: Path) -> None:
    arch, name, fields = OTHERS[which]
    model = pico(arch, attn_implementation="eager", **fields)
    base = addenda.load_base(as_llama_cpp(tmp_path / "g.gguf", name, model), attn_implementation="eager")
    ids = random_ids(2, 40)
    assert (base.model(ids).logits - model(ids).logits).abs().max() <= 1e-5 * model(ids).logits.abs().max()
    for field in (
        "sliding_window",
        "query_pre_attn_scalar",
        "head_dim",
        "rope_parameters",
        "vocab_size",
        "layer_types",
    ):
        if which != "phi3":  # it has one window, which no file says
            assert getattr(base.model.config, field, None) == getattr(model.config, field, None), field


def test_float32_and_bfloat16_loads_have_one_fingerprint(file: Path) -> None:
    assert addenda.load_base(file, dtype=torch.bfloat16).fingerprint == addenda.load_base(file).fingerprint


def test_a_model_that_transformers_loaded_is_the_same_base(file: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    assert addenda.attach(model).fingerprint == addenda.load_base(file).fingerprint


def test_it_is_a_plain_model(file: Path, tmp_path: Path) -> None:
    base = addenda.load_base(file)
    base.model.save_pretrained(tmp_path / "plain")
    base.tokenizer.save_pretrained(tmp_path / "plain")
    again = addenda.load_base(tmp_path / "plain")
    assert again.fingerprint == base.fingerprint
    assert again.tokenizer.chat_template == base.tokenizer.chat_template == pico_tokenizer().chat_template
    for text in ("a\n\n12 3", "two  spaces"):
        assert again.tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("text", ["a\n\n12 3", "x  42", "  7", "it's 1999"])
def test_text_is_cut_as_the_file_says(text: str, file: Path, tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    ours = pico_tokenizer()
    ours.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    base = addenda.attach(pico("llama"), ours)
    base.new("fresh", addenda.LoRA(2))
    addenda.merge(base, "fresh", out=tmp_path / "digits", probe=[text], format="gguf", gguf_type="f32")
    theirs = addenda.load_base(tmp_path / "digits" / "model.gguf").tokenizer
    cut = [one for one, _ in theirs.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert cut == [one for one, _ in ours.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert theirs(text)["input_ids"] == ours(text)["input_ids"]


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gpt2"])
def test_the_tokenizer_has_no_token_beyond_the_files_own(arch: str, tmp_path: Path) -> None:
    """transformers' GPT-2 class brings <|endoftext|> along, which this base embeds no row for."""
    base = addenda.load_base(exported(tmp_path / "m", arch))
    ours = pico_tokenizer()
    assert len(base.tokenizer) <= base.vocabulary
    assert base.tokenizer.special_tokens_map == ours.special_tokens_map
    text = "an <|endoftext|> here"
    assert base.tokenizer(text)["input_ids"] == ours(text)["input_ids"]
    base.model(base.tokenize(text)[None])


def test_a_way_of_cutting_that_nobody_knows_is_told() -> None:
    header = gguf_file.Header({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "not-yet-there"}, {})
    with pytest.warns(UserWarning, match="cuts text in a way that transformers does not know .'not-yet-there'"):
        gguf_file._cut_as_it_was_trained(pico_tokenizer(), header)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header.metadata["tokenizer.ggml.pre"] = "gpt-2"
        gguf_file._cut_as_it_was_trained(pico_tokenizer(), header)


def test_one_line_says_that_it_takes_a_while(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        addenda.load_base(file)
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"reading {file} (")


def test_nothing_stays_changed_in_other_libraries(file: Path) -> None:
    from transformers import modeling_gguf_pytorch_utils as legacy
    from transformers.utils import logging

    def state() -> tuple[Any, ...]:
        bars = logging.is_progress_bar_enabled()
        return gguf.GGUFReader, gguf.get_tensor_name_map, legacy.tqdm, logging.get_verbosity(), bars

    before, loaded = state(), []
    threads = [threading.Thread(target=lambda: loaded.append(addenda.load_base(file))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 2
    assert state() == before


# --- bad input -------------------------------------------------------------------------------------------------------


def shortened(by: int) -> Callable[[Path, Path], Path]:
    def cut(folder: Path, whole: Path) -> Path:
        content = whole.read_bytes()
        (folder / "cut.gguf").write_bytes(content[:by] if by > 0 else content[: len(content) + by])
        return folder / "cut.gguf"

    return cut


def content(given: bytes) -> Callable[[Path, Path], Path]:
    def put(folder: Path, _: Path) -> Path:
        (folder / "x.gguf").write_bytes(given)
        return folder / "x.gguf"

    return put


def head(**given: Any) -> Callable[[Path, Path], Path]:
    return lambda folder, _: written(folder / "x.gguf", **given)


def a_folder(folder: Path, _: Path) -> Path:
    (folder / "x.gguf").mkdir()
    return folder / "x.gguf"


def kept_scales(folder: Path, _: Path) -> Path:
    """Positions stretched by factors that no parameters give."""
    writer = gguf.GGUFReader(exported(folder / "m", rope_parameters=LLAMA3), "r+")
    tensor = next(one for one in writer.tensors if one.name == "rope_freqs.weight")
    tensor.data[:] = 3.0
    tensor.data[0] = 1.5
    writer.data.flush()
    return folder / "m" / "model.gguf"


def a_missing_tensor(folder: Path, whole: Path) -> Path:
    raw = whole.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight")
    (folder / "x.gguf").write_bytes(raw)
    return folder / "x.gguf"


FAULTS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "empty": (content(b""), r"the file is empty"),
    "not a GGUF": (content(b"PK\3\4" + bytes(400)), r"the file is not a GGUF file: it does not begin with"),
    "text": (content(b"hello"), r"the file is not a GGUF file"),
    "an old version": (
        content(b"GGUF" + (1).to_bytes(4, "little") + bytes(40)),
        r"a GGUF of version 1; versions 2 and 3",
    ),
    "four letters": (content(b"GGUF"), r"the file is cut off or damaged: its head"),
    "cut in its head": (shortened(200), r"the file is cut off or damaged: its head"),
    "cut in its vocabulary": (shortened(2000), r"the file is cut off or damaged: its head"),
    "cut in its tensors": (shortened(60_000), r"the file is cut off: it has 60,000 bytes of [\d,]+; fetch it again"),
    "cut by one byte": (shortened(-1), r"the file is cut off: it has"),
    "a lying head": (content(b"GGUF\3\0\0\0" + b"\xff" * 400), r"the file is cut off or damaged"),
    "a folder": (a_folder, r"it is a folder, not a GGUF file"),
    "nothing": (lambda folder, _: folder / "none.gguf", r"the file cannot be opened \(No such file"),
    "no tokenizer": (head(tokenizer=None), r"the file has no tokenizer; load the model with transformers"),
    "no vocabulary": (head(tokenizer="no_vocab"), r"the file has no tokenizer"),
    "GGUF knows it": (head(arch="mamba"), r"architecture 'mamba' of the GGUF file has no table; supported are .*llama"),
    "nobody knows it": (head(arch="qwen33"), r"architecture 'qwen33' of .* did you mean 'qwen3'\?"),
    "not read by transformers": (head(arch="olmo2"), r"transformers cannot read its GGUF file \(.*olmo2"),
    "an adapter": (head(general__type="adapter"), r"the file holds 'adapter', and not a whole model"),
    "a vocabulary": (head(tensors=False), r"the file holds no tensors, only a vocabulary"),
    "a part": (head(split__count=3), r"it is one of the 3 parts of a model; join them first"),
    "stretched": (kept_scales, r"its rotary positions are stretched \(by factors of its own\)"),
    "a tensor is missing": (a_missing_tensor, r"have no values for 1 tensors: model\.layers\.1\.mlp\.up_proj\.weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_sentence(fault: str, file: Path, tmp_path: Path) -> None:
    make, told = FAULTS[fault]
    path = make(tmp_path, file)
    with pytest.raises(AddendaError, match=told) as seen:
        addenda.load_base(path)
    assert str(seen.value).startswith(f"cannot load the base '{path}': ")
    assert "\n" not in str(seen.value)
    assert len(str(seen.value)) < 600


def test_the_gguf_package_is_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(AddendaError, match=r"is a GGUF file, which needs the gguf package: pip install gguf$"):
        addenda.load_base(file)


def test_a_long_context_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    config = pico("phi3").config
    header = gguf_file.Header({"general.architecture": "phi3"}, {"rope_factors_long.weight": (8,)})
    with pytest.raises(UnsupportedError, match=r"stretched \(longrope\)"):
        gguf_file._stretch(config, header, tmp_path, "x")
    header = gguf_file.Header({"general.architecture": "qwen2", "qwen2.rope.scaling.type": "yarn"}, {})
    with pytest.raises(UnsupportedError, match=r"stretched \(yarn\)"):
        gguf_file._stretch(config, header, tmp_path, "x")


def test_a_head_says_what_stands_in_the_file(file: Path) -> None:
    header, reader = read_header(file), gguf.GGUFReader(file)
    assert header.architecture == "llama"
    assert header.own("block_count") == 3
    assert header.tensors == {one.name: tuple(int(n) for n in reversed(one.shape)) for one in reader.tensors}
    for key in ("tokenizer.ggml.pre", "tokenizer.chat_template", "llama.rope.freq_base"):
        assert header.metadata[key] == reader.fields[key].contents()


def patched(file: Path, key: str, value: Any) -> Path:
    """A file whose head says something else in place of a number."""
    reader = gguf.GGUFReader(file)
    field = reader.fields[key]
    at, old = field.offset, field.parts[field.data[0]]
    raw = bytearray(file.read_bytes())
    place = raw.index(bytes(old), at + len(key))
    raw[place : place + old.nbytes] = np.array([value], old.dtype).tobytes()
    file.write_bytes(raw)
    return file


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("llama.block_count", 1, "head says 1 layers, and it has the tensors of"),
        ("llama.block_count", 0, "head says 0 layers"),
        ("llama.block_count", 2**31, "head says 2147483648 layers"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), "layer_norm_rms_epsilon is nan; it is damaged"),
        ("llama.rope.freq_base", 0.0, r"rope.freq_base is 0\.0; it is damaged"),
    ],
)
def test_a_head_that_does_not_fit_its_tensors(file: Path, key: str, value: Any, told: str) -> None:
    with pytest.raises(AddendaError, match=told):
        addenda.load_base(patched(file, key, value))


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = pico("llama")
    file = exported(tmp_path / "m", model=model)
    lies = read_header(file).floats["output_norm.weight"]
    raw = bytearray(file.read_bytes())
    raw[lies : lies + 4] = np.array([np.nan], np.float32).tobytes()
    file.write_bytes(raw)
    with pytest.raises(AddendaError, match="holds numbers that are not finite"):
        addenda.load_base(file)
