"""The network of the embedded base: a small Llama, freshly initialised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .corpus import BOS, EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIZES = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
}


def make_model(vocab_size: int = 8192, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A freshly initialised float32 model; what writes to the residual stream starts smaller. `changes` are to its sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size, tie_word_embeddings=True, max_position_embeddings=2048, rms_norm_eps=1e-5,
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, **{**SIZES, **changes},
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_((2 * config.num_hidden_layers) ** -0.5)
    return model
