"""Reads llama2.c version 0 checkpoints and tokenizers into transformers' Llama."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import torch


def _halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Query or key rows from rotary pairs (0, 1), (2, 3) .. to transformers' (0, d/2), (1, d/2 + 1) .."""
    rows, columns = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def load_model(path: Path):
    """A float32 LlamaForCausalLM with the weights of a llama2.c version 0 file."""
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", raw[:28])
    numbers = torch.from_numpy(np.frombuffer(raw, dtype="<f4", offset=28).copy())
    place = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal place
        size = int(np.prod(shape))
        place += size
        return numbers[place - size : place].view(shape)

    kv = dim // heads * kv_heads
    tied = vocab > 0  # llama2.c marks a head of its own by a negative vocabulary
    state = {"model.embed_tokens.weight": take(abs(vocab), dim)}
    parts = [
        ("input_layernorm", (dim,)),
        ("self_attn.q_proj", (dim, dim)),
        ("self_attn.k_proj", (kv, dim)),
        ("self_attn.v_proj", (kv, dim)),
        ("self_attn.o_proj", (dim, dim)),
        ("post_attention_layernorm", (dim,)),
        ("mlp.gate_proj", (hidden, dim)),
        ("mlp.down_proj", (dim, hidden)),
        ("mlp.up_proj", (hidden, dim)),
    ]
    for name, shape in parts:
        for i, weight in enumerate(take(layers, *shape)):
            if name.endswith(("q_proj", "k_proj")):
                weight = _halves(weight, heads if name.endswith("q_proj") else kv_heads)
            state[f"model.layers.{i}.{name}.weight"] = weight
    state["model.norm.weight"] = take(dim)
    place += context * (dim // heads)  # two rotary tables, not needed
    state["lm_head.weight"] = state["model.embed_tokens.weight"] if tied else take(-vocab, dim)
    if place != len(numbers):
        raise ValueError(f"{path}: {len(numbers)} numbers, {place} used")
    config = LlamaConfig(
        vocab_size=abs(vocab),
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


class Llama2cTokenizer:
    """The score-merging tokenizer of a llama2.c tokenizer file."""

    bos, eos = 1, 2

    def __init__(self, path: Path, size: int = 512):
        raw = path.read_bytes()
        place, self.tokens, self.scores = 4, [], []
        for _ in range(size):
            score, length = struct.unpack_from("<fi", raw, place)
            self.tokens.append(raw[place + 8 : place + 8 + length])
            self.scores.append(score)
            place += 8 + length
        self._number = {token: i for i, token in reversed(list(enumerate(self.tokens)))}

    def encode(self, text: str) -> list[int]:
        """BOS, then the text after a space, merged greedily by score."""
        ids = []
        for character in f" {text}" if text else "":
            code = character.encode()
            ids += [self._number[code]] if code in self._number else [byte + 3 for byte in code]
        while True:
            joined = [self._number.get(self.tokens[a] + self.tokens[b]) for a, b in itertools.pairwise(ids)]
            known = [(self.scores[n], -i) for i, n in enumerate(joined) if n is not None]
            if not known:
                return [self.bos, *ids]
            i = -max(known)[1]
            ids[i : i + 2] = [joined[i]]

    def decode(self, ids: list[int]) -> str:
        """The text of tokens; the space that encoding put first is taken off."""
        text = b""
        for i in ids:
            if i not in (self.bos, self.eos):
                text += bytes([i - 3]) if 3 <= i < 259 else self.tokens[i]
        return text.decode(errors="replace").removeprefix(" ")
