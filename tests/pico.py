"""Pico models: one random-weight causal LM of a few tens of thousands of parameters per supported architecture.

Every model is seeded, in eval mode, in float32, without dropout, and has non-zero biases and uneven norms, so that a
test cannot pass because two things happen to be equal to zero or one. Weights are large enough that logits differ
between tokens. Models come from configurations alone: no file and no network.

    model = pico("qwen3")                          # Qwen3ForCausalLM, 3 layers, vocabulary of 128
    model = pico("llama", num_hidden_layers=2)     # any field of the configuration
    tokenizer = pico_tokenizer()                   # ASCII, byte-level BPE, the same ids for every model
    ids = random_ids(2, 12)                        # [2, 12], no special tokens
"""

from __future__ import annotations

import os
import string
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCAB = 128
#: where models and ids are made: `ADDENDA_TEST_DEVICE=cuda` runs the laws on a GPU
DEVICE = torch.device(os.environ.get("ADDENDA_TEST_DEVICE", "cpu"))
PAD, BOS, EOS, UNK = 0, 1, 2, 3
WINDOW = 8  # sliding windows are shorter than most test texts, so that they really cut

_COMMON: dict[str, Any] = {"vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
_LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "attention_dropout": 0.0,
}
_GEMMA: dict[str, Any] = {
    "query_pre_attn_scalar": 16,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_OWN: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "mistral": _LLAMA | {"sliding_window": WINDOW},
    "smollm3": _LLAMA | {"no_rope_layers": [1, 0, 1], "use_sliding_window": False},
    "olmo2": _LLAMA,
    "gemma2": _LLAMA | _GEMMA | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0},
    "gemma3_text": _LLAMA | _GEMMA,
    "phi3": _LLAMA | {"resid_pdrop": 0.0, "embd_pdrop": 0.0},
    "gpt2": {
        "n_embd": 64,
        "n_inner": 96,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 256,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "gpt_neox": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "use_parallel_residual": True,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
    },
    "opt": {
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "ffn_dim": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "layerdrop": 0.0,
    },
    "qwen3_moe": _LLAMA
    | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
}
_MODEL_TYPE = {"gemma3": "gemma3_text"}

ARCHS: tuple[str, ...] = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "smollm3",
    "olmo2",
    "gemma2",
    "gemma3",
    "phi3",
    "gpt2",
    "gpt_neox",
    "opt",
    "qwen3_moe",
)


def pico(arch: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> PreTrainedModel:
    """Build the pico model of an architecture; the same arguments give the same bits.

    Args:
        arch: one of `ARCHS`.
        seed: of the weights; the global random state is left as it was.
        dtype: of the parameters; drawn in float32, then rounded.
        overrides: fields of the architecture's configuration; `attn_implementation` too.
    """
    if arch not in ARCHS:
        raise ValueError(f"no pico model for {arch!r}; there are {', '.join(ARCHS)}")
    attention = overrides.pop("attn_implementation", None)
    model_type = _MODEL_TYPE.get(arch, arch)
    config = AutoConfig.for_model(model_type, **(_COMMON | _OWN[model_type] | overrides))
    chosen = {} if attention is None else {"attn_implementation": attention}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **chosen)
        _draw(model)
    model.generation_config.pad_token_id = PAD
    model.generation_config.bos_token_id = BOS
    model.generation_config.eos_token_id = EOS
    return model.to(DEVICE, dtype).eval()


def _draw(model: PreTrainedModel) -> None:
    """Redraw every parameter: matrices wide enough that logits vary, biases off zero, norms off one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.15)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def random_ids(rows: int, tokens: int, *, seed: int = 0) -> torch.Tensor:
    """Seeded token ids [rows, tokens] without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(UNK + 1, VOCAB, (rows, tokens), generator=generator).to(DEVICE)


_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
_MERGES = (
    "t h,Ġ a,h e,Ġ th,i n,e r,Ġth e,a n,r e,o n,Ġ o,i s,a t,e n,Ġ s,Ġo f,Ġ w,Ġa n,Ġan d,e d,in g,o r,e s,Ġ i,Ġ c,l l"
).split(",")


def pico_tokenizer(padding_side: str = "left") -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer of at most 128 entries, in memory.

    Lossless on printable ASCII, newlines and tabs; other characters become `<unk>`. It puts no special token in front
    of a text and has a small chat template.
    """
    letters = [c for c in string.printable if 32 < ord(c) < 127] + ["Ġ", "Ċ", "ĉ"]
    entries = ["<pad>", "<bos>", "<eos>", "<unk>", *letters, *(m.replace(" ", "") for m in _MERGES)]
    assert len(entries) == len(set(entries)) <= VOCAB
    merges = [(left, right) for left, right in (m.split(" ") for m in _MERGES)]
    backend = Tokenizer(models.BPE(vocab={e: i for i, e in enumerate(entries)}, merges=merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in entries[:4]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side=padding_side,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT
    return tokenizer
