"""Small GGUF files for tests: pico models as our own export writes them, and heads written field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

import addenda
from pico import pico, pico_tokenizer


def exported(folder: Path, arch: str = "llama", model: Any = None, **fields: Any) -> Path:
    """A pico model as a GGUF of 32-bit floats, with its tokenizer."""
    base = addenda.attach(pico(arch, **fields) if model is None else model, pico_tokenizer())
    base.new("fresh", addenda.LoRA(2))  # adds nothing
    addenda.merge(base, "fresh", out=folder, probe=["The heart pumps the blood."], format="gguf", gguf_type="f32")
    base.detach()
    return folder / "model.gguf"


def written(
    path: Path, arch: str = "llama", *, tokenizer: str | None = "gpt2", tensors: bool = True, **more: Any
) -> Path:
    """A file of two tensors, with a head that says so little that nothing but the head can be told of it."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(1)
    if tokenizer is not None:
        writer.add_tokenizer_model(tokenizer)
        writer.add_token_list(["a", "b"])
    for key, value in more.items():
        add = writer.add_uint16 if isinstance(value, int) else writer.add_string
        add(key.replace("__", "."), value)
    if tensors:
        writer.add_tensor("token_embd.weight", np.ones((2, 8), dtype=np.float32))
        writer.add_tensor("blk.0.attn_norm.weight", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
