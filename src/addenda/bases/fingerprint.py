"""A base's fingerprint: the same for float32 and bfloat16 loads, any device, any sharding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from addenda.bases.wrappers import gathered, plain_name, unwrapped

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


@dataclass(frozen=True)
class Identity:
    """What a base is known by.

    `fingerprint` is over everything; `body` over all parameters but the embedding and the head; `fields` are those of the
    architecture that enter, where the configuration has them.
    """

    fingerprint: str
    body: str
    fields: dict[str, Any]


def fingerprint(model: nn.Module) -> str:
    """sha256 over architecture fields and parameter values rounded to bfloat16, from the loaded model.

    Wrappers (torch.compile, DDP, FSDP, what accelerate prepares) are looked through. Tied parameters count once; offloaded
    ones are read where accelerate keeps them.
    """
    return identity(model).fingerprint


def identity(model: nn.Module) -> Identity:
    """Fingerprint, and what tells in which way another base is another one; values are read once."""
    with gathered(model):
        return _identity(unwrapped(model))


def _identity(model: nn.Module) -> Identity:
    fields = _fields(model.config)
    whole = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode())
    body = hashlib.sha256()
    rows = {id(parameter) for parameter in _vocabulary(model)}
    named = [(plain_name(name), name, parameter) for name, parameter in model.named_parameters()]
    for known, name, parameter in sorted(named, key=lambda entry: entry[0]):
        value = _values(model, name, parameter)
        digests = (whole,) if id(parameter) in rows else (whole, body)
        for digest in digests:
            digest.update(f"{known}{tuple(value.shape)}".encode())
        # cut into pieces: no second copy of a large embedding in memory
        for piece in value.detach().flatten().split(1 << 24):
            data = piece.to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data
            for digest in digests:
                digest.update(data)
    told = {name: value for name, value in fields.items() if value is not None}
    return Identity(whole.hexdigest(), body.hexdigest(), json.loads(json.dumps(told, default=str)))


def _vocabulary(model: Any) -> list[Tensor]:
    """The parameters that have a row for each token."""
    ends = (getattr(model, f"get_{which}_embeddings", lambda: None)() for which in ("input", "output"))
    return [parameter for end in ends if end is not None for parameter in end.parameters()]


def _fields(config: Any) -> dict[str, Any]:
    fields = {name: getattr(config, name, None) for name in FIELDS}
    fields |= {name: float(str(np.float32(fields[name]))) for name in _EPSILONS if isinstance(fields[name], float)}
    for name, usual in UNUSUAL.items():
        value = getattr(config, name, None)
        if value is not None and value != usual:
            fields[name] = value
    rope = fields["rope_parameters"] or {}
    if any(part.get("rope_type") in _STRETCHED for part in (rope, *rope.values()) if isinstance(part, dict)):
        fields["max_position_embeddings"] = config.max_position_embeddings
    return fields


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
