"""SmolLM2 from the package index, by name: that it is the model people know, and lives through all that a base lives through."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.bases.named import NAMED

#: over the dequantised model, on every machine
FINGERPRINT = "86dc9656c6dbc2517a9c556e8ba1ce33745f38e7813df83d67985ab0e3e162d7"
TEXT = "Robert Boulter is an English film, television and theatre actor, who had a guest role on a television series in 2000."


def there(name: str) -> bool:
    """Whether the packages of a named base are installed, as they are in the table."""
    try:
        return all(version(package) == wanted for package, wanted, _ in NAMED[name].packages)
    except PackageNotFoundError:
        return False


needs = [pytest.mark.slow, pytest.mark.skipif(not there("smollm2"), reason=f"needs {NAMED['smollm2'].command}")]
pytestmark = needs


@pytest.fixture(scope="module")
def loaded() -> addenda.Base:
    return addenda.load_base("smollm2")


@pytest.fixture
def base(loaded: addenda.Base) -> Iterator[addenda.Base]:
    yield loaded
    for name in list(loaded.modules):
        loaded.unplug(name)
    loaded.use()


def said(base: addenda.Base, question: str) -> str:
    """The greedy answer to a question, in the chat's form."""
    ids = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = base.model.generate(**ids, max_new_tokens=20, do_sample=False)
    return base.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_it_answers(base: addenda.Base) -> None:
    assert "Paris" in said(base, "What is the capital of France?")
    assert "blue" in said(base, "What colour is a clear sky by day? Answer in one word.").lower()


def test_what_the_file_says_comes_through(base: addenda.Base) -> None:
    config, tokenizer, model = base.model.config, base.tokenizer, base.model
    assert (base.name, config.model_type, base.anatomy.parameters) == ("smollm2", "llama", 134_515_008)
    assert config.tie_word_embeddings
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert config.rope_parameters == {"rope_theta": 100000.0, "rope_type": "default"}
    assert (config.head_dim, config.num_key_value_heads, base.context) == (64, 3, 8192)
    assert config.rms_norm_eps == pytest.approx(1e-5, rel=1e-6)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    assert tokenizer("Hello world")["input_ids"] == [19556, 905]  # no bos
    assert tokenizer.tokenize("a\n\n12  3") == ["a", "ĊĊ", "1", "2", "ĠĠ", "3"]  # digits are cut first
    assert "<|im_start|>system" in tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert len(tokenizer) == base.vocabulary == 49152
    with torch.no_grad():
        ids = base.tokenize(TEXT)[None]
        assert 2.0 < float(model(ids, labels=ids).loss) < 3.6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_has_one_fingerprint(base: addenda.Base, dtype: torch.dtype) -> None:
    other = base if dtype == torch.float32 else addenda.load_base("smollm2", dtype=dtype)
    assert other.model.dtype == dtype
    assert other.fingerprint == FINGERPRINT


def test_threads_change_nothing(base: addenda.Base) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert addenda.load_base("smollm2").fingerprint == FINGERPRINT
    finally:
        torch.set_num_threads(threads)


def test_it_learns_and_is_bit_equal_after(base: addenda.Base, tmp_path: Path) -> None:
    ids = base.tokenize(TEXT)[None]
    with torch.no_grad():
        bare = base.model(ids).logits
    base.new("note", addenda.LoRA(rank=4))
    addenda.train(base, "note", corpus=[TEXT] * 20, tokens=4 * 128, length=32, batch_rows=4, lr=5e-3)
    with torch.no_grad(), base.using("note"):
        learned = base.model(ids, labels=ids).loss
    with torch.no_grad(), base.off():
        assert torch.equal(base.model(ids).logits, bare)
        assert learned < base.model(ids, labels=ids).loss - 0.1
    base.modules["note"].save(tmp_path / "note")
    base.unplug("note")
    assert addenda.fingerprint(base.model) == FINGERPRINT
    with torch.no_grad():
        assert torch.equal(base.model(ids).logits, bare)
    base.plug(tmp_path / "note")


@pytest.mark.parametrize("format", ["checkpoint", "gguf"])
def test_it_merges_with_proof(base: addenda.Base, format: Any, tmp_path: Path) -> None:
    module = base.new("note", addenda.LoRA(rank=2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.02)
    out = tmp_path / "out"
    report = addenda.merge(base, "note", out=out, probe=[TEXT], format=format, gguf_type="f16")
    assert report.proof is not None
    assert report.proof.holds
    merged = addenda.load_base(out if format == "checkpoint" else out / "model.gguf")
    ids = base.tokenize(TEXT)[None]
    with torch.no_grad(), base.using("note"):
        ours = base.model(ids).logits
    with torch.no_grad():
        apart = float((merged.model(ids).logits - ours).abs().max() / ours.abs().max())
    assert apart < (1e-4 if format == "checkpoint" else 1e-2)
    assert merged.tokenizer.chat_template == base.tokenizer.chat_template
    for text in (TEXT, "a\n\n12  3", "<|im_start|>user\nx<|im_end|>"):
        assert merged.tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]


def test_on_a_copy_with_other_numbers_it_is_told_and_measured(base: addenda.Base, tmp_path: Path) -> None:
    """As somebody does who trained on the quantised file, and plugs into the original checkpoint."""
    base.new("note", addenda.LoRA(rank=4))
    addenda.train(base, "note", corpus=[TEXT] * 20, tokens=4 * 128, length=32, batch_rows=4, lr=5e-3)
    folder = base.modules["note"].save(tmp_path / "note")
    other = addenda.load_base("smollm2")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1 + 0.01 * torch.randn(parameter.shape, generator=generator))
    with pytest.raises(addenda.AddendaError, match="same architecture, other weights: .*check='warn'"):
        other.plug(folder)
    with pytest.warns(UserWarning, match="wrong base"), pytest.warns(UserWarning, match="with 'note' on this base"):
        other.plug(folder, check="warn", text=TEXT)
    assert addenda.plug_cost(other, "note", TEXT).change < -0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base.plug(folder, name="again", check="warn", text=TEXT)


def test_what_it_costs_is_told(base: addenda.Base) -> None:
    cost = addenda.cost_of(base, addenda.LoRA(rank=8), seconds=1.0)
    assert cost.weight_bytes == pytest.approx(538e6, rel=0.01)
    assert cost.reading > cost.training > 0
    assert addenda.fingerprint(base.model) == FINGERPRINT


@pytest.mark.skipif(not there("gemma3"), reason=f"needs {NAMED['gemma3'].command}")
def test_gemma_reads_as_it_should() -> None:
    base = addenda.load_base("gemma3")
    config = base.model.config
    assert (base.name, config.model_type, config.vocab_size, config.head_dim) == ("gemma3", "gemma3_text", 262144, 256)
    kinds = ["full_attention" if number % 6 == 5 else "sliding_attention" for number in range(18)]
    assert (config.layer_types, config.sliding_window, config.query_pre_attn_scalar) == (kinds, 512, 256)
    assert config.rope_parameters["full_attention"]["rope_theta"] == 1e6
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 1e4
    assert base.tokenizer.chat_template is None
    ids = base.tokenize(TEXT)[None]
    assert ids[0, 0] == base.tokenizer.bos_token_id == 2
    with torch.no_grad():
        assert 1.5 < float(base.model(ids, labels=ids).loss) < 3.2
    question = base.tokenizer(
        "Q: What is the capital of Italy?\nA: Rome\nQ: What is the capital of France?\nA:", return_tensors="pt"
    )
    out = base.model.generate(**question, max_new_tokens=3, do_sample=False)[0, question["input_ids"].shape[1] :]
    assert "Paris" in base.tokenizer.decode(out)
