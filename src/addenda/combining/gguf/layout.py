"""How a checkpoint of each architecture lies in a GGUF file: its name there, hyperparameters, and turned matrices.

The names are those of the `gguf` package; what llama.cpp makes of them is described in its `docs/gguf.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from addenda.core.errors import UnsupportedError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """One architecture.

    `name` is GGUF's, `refusal` says why a configuration cannot be written, `context` the number of tokens that may be read,
    `keys` writes the other hyperparameters, `change` turns what lies otherwise.
    """

    name: str
    refusal: Callable[[Any], str | None]
    context: Callable[[Any], int]
    keys: Callable[[Any, Any], None]
    change: Callable[[str, Array, Any], Array]


def layout_of(config: Any) -> Layout:
    """The layout of a model's configuration.

    Raises:
        UnsupportedError: no GGUF is written for this architecture, or not for this configuration of it; says why.
    """
    layout = LAYOUTS.get(config.model_type)
    if layout is None:
        raise UnsupportedError(
            f"no GGUF is written for '{config.model_type}'; for {', '.join(sorted(LAYOUTS))} it is. "
            "Write a checkpoint (format='checkpoint') and convert it with the tools of llama.cpp"
        )
    if (why := layout.refusal(config)) is not None:
        raise UnsupportedError(why)
    return layout


def rope(config: Any) -> dict[str, Any]:
    """The rotary positions of a configuration, of type `default` where it says nothing."""
    return {"rope_type": "default", "rope_theta": 10000.0} | dict(getattr(config, "rope_parameters", None) or {})


def rope_factors(config: Any) -> Array | None:
    """What llama.cpp divides each rotary frequency by [head_dim / 2]; None unless positions are those of Llama 3.

    Short waves stay, long ones are stretched by `factor`, those between are blended ("The Llama 3 Herd of Models", 2024;
    the constants are the configuration's).
    """
    given = rope(config)
    if given["rope_type"] != "llama3":
        return None
    size = head_size(config)
    waves = 2 * math.pi * given["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    factor, low, high = given["factor"], given["low_freq_factor"], given["high_freq_factor"]
    blend = (given["original_max_position_embeddings"] / waves - low) / (high - low)
    between = 1 / ((1 - blend) / factor + blend)
    return np.where(blend < 0, factor, np.where(blend > 1, 1.0, between)).astype(np.float32)


def head_size(config: Any) -> int:
    """Width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rotary_refusal(config: Any) -> str | None:
    kind = rope(config)["rope_type"]
    if kind in ("default", "linear", "llama3"):
        return None
    return f"no GGUF is written for rotary positions of type '{kind}'"


def _gpt2_refusal(config: Any) -> str | None:
    if config.activation_function in ("gelu_new", "gelu_pytorch_tanh"):
        return None
    return f"llama.cpp runs GPT-2 with gelu_new; this base has '{config.activation_function}'"


def _context(config: Any) -> int:
    # llama.cpp attends to all of it: as far as a sliding window reaches, the two compute the same
    sliding = config.model_type == "mistral" or getattr(config, "use_sliding_window", False)
    window = getattr(config, "sliding_window", None) if sliding else None
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


def _learned_context(config: Any) -> int:
    return config.n_positions


def _llama_keys(writer: Any, config: Any) -> None:
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_rope_dimension_count(head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    given = rope(config)
    writer.add_rope_freq_base(given["rope_theta"])
    if given["rope_type"] == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(given["factor"])


def _gpt2_keys(writer: Any, config: Any) -> None:
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)


def _as_it_is(name: str, tensor: Array, config: Any) -> Array:
    return tensor


def _interleaved(name: str, tensor: Array, config: Any) -> Array:
    """Queries and keys with the two halves of each head interleaved, as llama.cpp turns them for `llama`."""
    part = name.rsplit(".", 2)[-2]
    if part not in ("q_proj", "k_proj"):
        return tensor
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _turned(name: str, tensor: Array, config: Any) -> Array:
    """GPT-2 keeps its matrices as [in, out]."""
    return (
        np.ascontiguousarray(tensor.T)
        if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
        else tensor
    )


LAYOUTS = {
    "llama": Layout("llama", _rotary_refusal, _context, _llama_keys, _interleaved),
    "mistral": Layout("llama", _rotary_refusal, _context, _llama_keys, _interleaved),
    "qwen2": Layout("qwen2", _rotary_refusal, _context, _llama_keys, _as_it_is),
    "qwen3": Layout("qwen3", _rotary_refusal, _context, _llama_keys, _as_it_is),
    "gpt2": Layout("gpt2", _gpt2_refusal, _learned_context, _gpt2_keys, _turned),
}
