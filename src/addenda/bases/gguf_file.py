"""A base in a GGUF file: read by transformers into plain numbers, tokenizer and chat template with it."""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from addenda.bases.architecture import architecture_of, architectures
from addenda.bases.gguf_header import GGUFError, Header, read_header
from addenda.bases.gguf_quickly import quickly
from addenda.core.errors import AddendaError, UnsupportedError, known

#: GGUF's names for cutting text at every digit before it is cut as GPT-2 does, as llama.cpp reads them
DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
#: and for cutting it as GPT-2 does
AS_GPT2 = ("gpt-2", "default", "olmo", "phi-2", "mpt", "jais", "gigachat", "roberta-bpe")


def header_of(path: Path, name: str) -> Header:
    """The head of a GGUF file that holds a base of a known architecture, with its tokenizer.

    Raises:
        AddendaError: it is no file, not a GGUF, cut off, or holds something else than a whole model with its tokenizer.
        UnsupportedError: its architecture has no table.
    """
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise AddendaError(
            f"the base '{name}' is a GGUF file, which needs the gguf package: pip install gguf"
        ) from None
    if path.is_dir():
        raise AddendaError(f"cannot load the base '{name}': it is a folder, not a GGUF file, and holds no config.json")
    try:
        header = read_header(path)
    except (GGUFError, OSError) as error:
        told = str(error) if isinstance(error, GGUFError) else f"cannot be opened ({error.strerror})"
        raise AddendaError(f"cannot load the base '{name}': the file {told}") from None
    kind = header.metadata.get("general.type", "model")
    if kind != "model" or not header.tensors:
        what = "no tensors, only a vocabulary" if kind == "model" else f"{kind!a}, and not a whole model"
        raise AddendaError(f"cannot load the base '{name}': the file holds {what}")
    if header.metadata.get("split.count", 1) not in (0, 1):
        raise AddendaError(
            f"cannot load the base '{name}': it is one of the {header.metadata['split.count']} parts of a model; "
            "join them first (llama-gguf-split --merge)"
        )
    _check_architecture(header, name)
    _check_numbers(header, name)
    if header.metadata.get("tokenizer.ggml.model") in (None, "none", "no_vocab"):
        raise AddendaError(
            f"cannot load the base '{name}': the file has no tokenizer; load the model with transformers "
            "(gguf_file=...) and give one to addenda.attach(model, tokenizer)"
        )
    return header


def _check_architecture(header: Header, name: str) -> None:
    """Refuse by name, before anything large is read."""

    def bare(word: str) -> str:
        return word.replace("-", "").replace("_", "").removesuffix("text")

    said = header.architecture
    if bare(said) not in map(bare, architectures()):
        raise UnsupportedError(
            f"cannot load the base '{name}': architecture {said[:40]!a} of the GGUF file has no table; supported are "
            f"{known(said, architectures())}"
        )


def _check_numbers(header: Header, name: str) -> None:
    """Refuse a head that does not fit its tensors, or that no logits could come of."""
    said = header.own("block_count")
    layers = {int(match[1]) for tensor in header.tensors if (match := re.match(r"blk\.(\d+)\.", tensor))}
    if said != len(layers) or layers != set(range(len(layers))):
        raise AddendaError(
            f"cannot load the base '{name}': the GGUF file's head says {said} layers, and it has the tensors of "
            f"{len(layers)}; it is damaged, or was cut by hand"
        )
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.freq_base"):
        value = header.own(key)
        if isinstance(value, float) and not (math.isfinite(value) and value > 0):
            raise AddendaError(f"cannot load the base '{name}': the GGUF file's {key} is {value}; it is damaged")


def load_gguf(path: Path, name: str, dtype: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer and transformers' report of what it loaded; the numbers are plain ones of `dtype`.

    Raises:
        AddendaError: as `header_of`; or transformers cannot make a model or a tokenizer of it.
    """
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    header = header_of(path, name)
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    loader: Any = AutoModelForCausalLM
    packed = getattr(transformers, "GgufConfig", None)  # some versions keep blocks of some architectures as they are
    if packed is not None:
        options = {"quantization_config": packed(dequantize=True), **options}
    with quickly():
        with _blaming(f"cannot load the base '{name}': transformers cannot read its GGUF file"):
            config = AutoConfig.from_pretrained(**where)
        architecture_of(config.model_type)
        _complete(config, header, path, name)
        with _blaming(
            f"cannot load the tokenizer of the base '{name}': transformers cannot read it from the GGUF file"
        ):
            tokenizer = AutoTokenizer.from_pretrained(**where)
            _cut_as_it_was_trained(tokenizer, header)
            _only_its_own(tokenizer, header)
        with _blaming(f"cannot load the base '{name}': transformers cannot read its GGUF file"):
            model, info = loader.from_pretrained(**where, config=config, dtype=dtype, **options)
    make_plain(model)
    for tensor, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise AddendaError(f"cannot load the base '{name}': '{tensor}' holds numbers that are not finite")
    return model, tokenizer, info


def plain_config(config: Any) -> Any:
    """A copy of a configuration, without the mark of a GGUF: its numbers were made plain ones when it was read."""
    config = copy.deepcopy(config)
    said = getattr(config, "quantization_config", None)
    if said is not None and _method(said) == "gguf":
        del config.quantization_config
    return config


def make_plain(model: Any) -> None:
    """Take the mark of a GGUF off a model whose numbers are plain, so that it can be saved and trained as any other."""
    said = getattr(model.config, "quantization_config", None)
    if said is None or _method(said) != "gguf":
        return
    del model.config.quantization_config
    for left in ("hf_quantizer", "quantization_method"):
        model.__dict__.pop(left, None)
    model.is_quantized = False


def _method(said: Any) -> str:
    method = said.get("quant_method") if isinstance(said, dict) else said.quant_method
    return str(getattr(method, "value", method))


def _complete(config: Any, header: Header, path: Path, name: str) -> None:
    """Put into a configuration what the file says and transformers' reader leaves out.

    Raises:
        UnsupportedError: positions are stretched in a way that cannot be told from the file.
    """
    for key, field in (
        ("attention.key_length", "head_dim"),
        ("context_length", "max_position_embeddings"),
        ("feed_forward_length", "n_inner" if config.model_type == "gpt2" else "intermediate_size"),
        ("attention.sliding_window", "sliding_window"),
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
    ):
        value = header.own(key)
        if isinstance(value, int | float) and hasattr(config, field) and getattr(config, field) != value:
            setattr(config, field, value)
    config.vocab_size = header.tensors.get("token_embd.weight", (config.vocab_size,))[0]
    if hasattr(config, "query_pre_attn_scalar"):
        # as llama.cpp has it: the width of a head, but in the two largest, which it knows by their depth
        share = (config.model_type, config.num_hidden_layers) in (("gemma2", 46), ("gemma3_text", 62))
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if share else config.head_dim
    _stretch(config, header, path, name)


def _stretch(config: Any, header: Header, path: Path, name: str) -> None:
    """Rotary positions that are stretched to a longer context."""
    refusal = (
        f"cannot load the base '{name}': its rotary positions are stretched ({{}}), which cannot be read from a GGUF"
    )
    kind, factor = header.own("rope.scaling.type"), header.own("rope.scaling.factor")
    if "rope_factors_long.weight" in header.tensors:
        raise UnsupportedError(refusal.format("longrope"))
    if kind == "linear" and factor not in (None, 1.0):
        rope = config.rope_parameters
        (rope.get("full_attention") or rope).update({"rope_type": "linear", "factor": float(factor)})
    elif kind not in (None, "none", "linear"):
        raise UnsupportedError(refusal.format(kind))
    if "rope_freqs.weight" in header.tensors:
        scaling = _llama3(config, header, path)
        if scaling is None:
            raise UnsupportedError(refusal.format("by factors of its own"))
        config.rope_parameters.update(scaling)


def _llama3(config: Any, header: Header, path: Path) -> dict[str, Any] | None:
    """The parameters of Llama 3's positions that give the factors [head_dim / 2] of the file; None where none do."""
    (size,) = header.tensors["rope_freqs.weight"]
    start = header.floats.get("rope_freqs.weight")
    if start is None or size != config.head_dim // 2:
        return None
    factors = np.fromfile(path, dtype="<f4", count=size, offset=start).astype(np.float64)
    if np.allclose(factors, 1.0):
        return {}
    theta = config.rope_parameters["rope_theta"]
    waves = 2 * np.pi * theta ** (np.arange(size) / size)
    for original in (8192, *(1 << n for n in range(6, 18))):
        factor = round(float(factors.max()), 4)
        blend = (
            original / waves - 1.0
        ) / 3.0  # low_freq_factor 1, high_freq_factor 4: all that were published have these
        made = np.where(blend < 0, factor, np.where(blend > 1, 1.0, 1 / ((1 - blend) / factor + blend)))
        if np.allclose(made, factors, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }
    return None


def _cut_as_it_was_trained(tokenizer: Any, header: Header) -> None:
    """Cut text before merges as the file says, where transformers' reader does not know the name of that."""
    if header.metadata["tokenizer.ggml.model"] != "gpt2":
        return
    from tokenizers import pre_tokenizers

    said, backend = header.metadata.get("tokenizer.ggml.pre", "default"), tokenizer.backend_tokenizer
    if said in DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif said not in AS_GPT2 and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        warnings.warn(
            f"the GGUF file's tokenizer cuts text in a way that transformers does not know ({said!a}); it is cut as GPT-2 "
            "does, and some token ids may differ from those that the model was trained with",
            UserWarning,
            stacklevel=5,
        )


def _only_its_own(tokenizer: Any, header: Header) -> None:
    """Take out tokens that transformers' class brings along and the file does not have: no row of the base is theirs."""
    count = header.metadata.get("tokenizer.ggml.tokens")
    backend = tokenizer.backend_tokenizer
    if not isinstance(count, int) or backend.get_vocab_size() <= count:
        return
    from tokenizers import Tokenizer

    said = json.loads(backend.to_str())
    said["added_tokens"] = [token for token in said["added_tokens"] if token["id"] < count]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(said))
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        if getattr(tokenizer, name) is not None and tokenizer._tokenizer.token_to_id(getattr(tokenizer, name)) is None:
            setattr(tokenizer, name, None)


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """A foreign file can make transformers raise anything."""
    try:
        yield
    except AddendaError:
        raise
    except Exception as error:
        raise AddendaError(f"{what} ({reason(error)})") from error


def reason(error: Exception) -> str:
    """An error in one line; its type too, where the words alone would not tell."""
    first = next(iter(str(error).strip().splitlines()), "").strip().rstrip(":. ")
    return first if isinstance(error, OSError | ValueError | ImportError) else f"{type(error).__name__}: {first}"


def float32_unless(dtype: Any) -> Any:
    """The dtype to load in: what was asked for, else float32, which every CPU computes fast."""
    return torch.float32 if dtype in (None, "auto") else dtype
