"""A base's fingerprint: the same for float32 and bfloat16 loads, any device, any sharding."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Fields of a config that change what the model computes. What is in neither table (seen in the parameters anyway, or
# dtype, paths, token ids, dropout, versions) may differ; tests/bases/test_fingerprint.py names it for every supported
# architecture, and shows that it does not matter.
#: these enter always, as null where a config lacks them: fingerprints in people's cards are made so
FIELDS = (
    "model_type", "hidden_size", "intermediate_size", "ffn_dim", "n_inner", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "hidden_act", "activation_function", "rms_norm_eps",
    "layer_norm_epsilon", "layer_norm_eps", "tie_word_embeddings", "rope_theta", "rope_parameters", "rope_scaling",
    "partial_rotary_factor", "sliding_window", "layer_types", "no_rope_layers", "attn_logit_softcapping",
    "final_logit_softcapping", "query_pre_attn_scalar", "use_parallel_residual", "do_layer_norm_before",
)  # fmt: skip
#: these are read as a 32-bit float is written: a GGUF file keeps them so, and in that precision they are added
_EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
#: these enter where they differ from what their absence means, so that a new version's new default changes nothing
UNUSUAL: dict[str, Any] = {
    "hidden_activation": None,
    "num_experts_per_tok": None,
    "norm_topk_prob": False,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "use_bidirectional_attention": False,
}
# rotary embeddings whose frequencies depend on the longest context
_STRETCHED = frozenset({"dynamic", "yarn", "longrope"})


def fingerprint(model: nn.Module) -> str:
    """sha256 over architecture fields and parameter values rounded to bfloat16, from the loaded model.

    Tied parameters count once; offloaded ones are read where accelerate keeps them.
    """
    config: Any = model.config
    digest = hashlib.sha256(json.dumps(_fields(config), sort_keys=True, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        value = _values(model, name, parameter)
        digest.update(f"{name}{tuple(value.shape)}".encode())
        # cut into pieces: no second copy of a large embedding in memory
        for piece in value.detach().flatten().split(1 << 24):
            digest.update(piece.to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fields(config: Any) -> dict[str, Any]:
    found = {name: getattr(config, name, None) for name in FIELDS}
    found |= {name: float(str(np.float32(found[name]))) for name in _EPSILONS if isinstance(found[name], float)}
    for name, usual in UNUSUAL.items():
        value = getattr(config, name, None)
        if value is not None and value != usual:
            found[name] = value
    rope = found["rope_parameters"] or {}
    if any(one.get("rope_type") in _STRETCHED for one in (rope, *rope.values()) if isinstance(one, dict)):
        found["max_position_embeddings"] = config.max_position_embeddings
    return found


def _values(model: nn.Module, name: str, parameter: Tensor) -> Tensor:
    if hasattr(parameter, "full_tensor"):  # sharded
        return parameter.full_tensor()  # type: ignore[no-any-return, operator]
    if hasattr(parameter, "dequantize") and type(parameter) is not nn.Parameter:  # quantised tensor subclasses
        return parameter.dequantize()
    if parameter.device.type != "meta":
        return parameter
    path, _, leaf = name.rpartition(".")
    module: Any = model.get_submodule(path)
    return module._hf_hook.weights_map[leaf]  # type: ignore[no-any-return]
