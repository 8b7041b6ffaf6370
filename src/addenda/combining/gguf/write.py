"""Write a plain checkpoint as a GGUF file, one tensor at a time, and read it back to see what the smaller numbers cost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from addenda.combining.gguf.layout import layout_of, rope_factors
from addenda.combining.gguf.vocabulary import vocabulary
from addenda.combining.proof import TOLERANCE, apart, logits_of, loss_of
from addenda.core.errors import AddendaError, UnsupportedError, known
from addenda.core.plain import Plain
from addenda.telling.progress import tick

#: numbers a file can be written in; q8_0: blocks of 32 whole numbers of 8 bits with a common scale
TYPES = ("f32", "f16", "q8_0")


@dataclass(frozen=True)
class Written(Plain):
    """A GGUF file: its numbers, and loss on the probe text [nats per token] of the checkpoint and of the file.

    `difference` is the largest between their logits, relative to the largest logit; `kept` counts the matrices that
    stayed in f16 because their rows are no multiple of 32 long.
    """

    file: str
    type: str
    bytes: int
    tensors: int
    kept: int
    loss: float
    loss_written: float
    difference: float

    def __str__(self) -> str:
        kept = f"; {self.kept} matrices in f16: their rows are no multiple of 32 long" if self.kept else ""
        return (
            f"{self.file}: {self.bytes / 2**20:,.1f} MiB in {self.type}{kept}\n"
            f"  loss on the probe text {self.loss_written:.4f} nats per token against {self.loss:.4f} of the checkpoint "
            f"({self.loss_written - self.loss:+.4f}); logits differ by at most {self.difference:.1e} of the largest"
        )


def gguf() -> Any:
    """The `gguf` package.

    Raises:
        AddendaError: it is not installed.
    """
    try:
        import gguf as package
    except ImportError:
        raise AddendaError("GGUF files need the gguf package: pip install gguf") from None
    return package


def check(config: Any, tokenizer: Any, kind: str) -> None:
    """Find out before any work whether a GGUF can be written.

    Raises:
        UnsupportedError: not of this architecture or tokenizer.
        AddendaError: no such type of numbers, or the gguf package is not installed.
    """
    gguf()
    if kind not in TYPES:
        raise AddendaError(f"a GGUF is written in one of {known(kind, TYPES)}; got {kind!r}")
    layout_of(config)
    if tokenizer is not None:
        vocabulary(tokenizer, config.vocab_size)


def write(folder: Path, config: Any, tokenizer: Any, path: Path, kind: str, notes: dict[str, Any]) -> tuple[int, int]:
    """Write the checkpoint in a folder as a GGUF file; returns how many tensors it has and how many were kept in f16.

    Args:
        folder: with the checkpoint's safetensors.
        config: the checkpoint's.
        tokenizer: written along; None: the file has none.
        path: of the new file.
        kind: `f32`, `f16` or `q8_0`. Vectors are always in f32.
        notes: kept in the file as JSON, under `addenda.merge`.

    Raises:
        UnsupportedError: a tensor has no place in a GGUF of this architecture.
    """
    package, layout = gguf(), layout_of(config)
    types = package.GGMLQuantizationType
    writer = package.GGUFWriter(None, layout.name)
    writer.add_type("model")
    writer.add_name("base with " + " + ".join(module["name"] for module in notes["modules"]))
    writer.add_file_type({"f32": 0, "f16": 1, "q8_0": 7}[kind])
    writer.add_context_length(layout.context(config))
    layout.keys(writer, config)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
    else:
        vocabulary(tokenizer, config.vocab_size).write(writer, tokenizer)
    writer.add_string("addenda.merge", json.dumps(notes))
    names = package.get_tensor_name_map(package.MODEL_ARCH[layout.name.upper()], config.num_hidden_layers)
    plan: list[Any] = []
    kept = 0
    for name, part in _slices(folder):
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise UnsupportedError(f"'{name}' has no place in a GGUF of '{config.model_type}'")
        turned = layout.change(
            name, np.broadcast_to(np.float32(0), part.get_shape()), config
        ).shape  # no memory is taken
        numbers = _type_of(target, turned, kind, types)
        kept += kind == "q8_0" and numbers == types.F16
        plan.append(numbers)
        writer.add_tensor_info(target, turned, np.dtype(np.float32), _bytes(turned, numbers, package), numbers)
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes, types.F32)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for (name, part), numbers in zip(_slices(folder), plan, strict=True):
        tick()
        array = layout.change(name, part[:].float().numpy(), config)
        writer.write_tensor_data(package.quants.quantize(np.ascontiguousarray(array), numbers))
    if factors is not None:
        writer.write_tensor_data(factors)
    for file in writer.fout:
        file.flush()
        os.fsync(file.fileno())
    writer.close()
    return len(plan) + (factors is not None), kept


def _slices(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every tensor of a checkpoint by name, not read yet, in the same order each time."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_slice(name)


def _type_of(name: str, shape: tuple[int, ...], kind: str, types: Any) -> Any:
    """Vectors and learned positions stay in f32, as llama.cpp wants them."""
    if kind == "f32" or len(shape) < 2 or name == "position_embd.weight":
        return types.F32
    return types.Q8_0 if kind == "q8_0" and shape[-1] % 32 == 0 else types.F16


def _bytes(shape: tuple[int, ...], numbers: Any, package: Any) -> int:
    block, size = package.GGML_QUANT_SIZES[numbers]
    return int(np.prod(shape)) // block * size


FILE = "model.gguf"


@torch.no_grad()
def convert(folder: Path, tokenizer: Any, kind: str, rows: Sequence[Tensor], notes: dict[str, Any]) -> Written:
    """Put a GGUF file in the place of the checkpoint in a folder; says what its numbers cost on `rows` of token ids [T].

    The file is read back by transformers, not by what wrote it.

    Raises:
        AddendaError: in f32 it computes something else than the checkpoint.
    """
    there, config = list(folder.iterdir()), AutoConfig.from_pretrained(folder)
    rows = [row[: layout_of(config).context(config)] for row in rows]
    plain = logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), rows)
    tensors, kept = write(folder, config, tokenizer, folder / FILE, kind, notes)
    written = logits_of(
        AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, config=_as_read(config), dtype=torch.float32), rows
    )
    for entry in there:
        entry.unlink()
    told = Written(
        file=FILE,
        type=kind,
        bytes=(folder / FILE).stat().st_size,
        tensors=tensors,
        kept=kept,
        loss=loss_of(plain, rows),
        loss_written=loss_of(written, rows),
        difference=apart(written, plain),
    )
    if kind == "f32" and config.dtype == torch.float32 and not told.difference <= TOLERANCE:
        raise AddendaError(
            f"nothing was written: the GGUF differs from the checkpoint by {told.difference:.1e} of the largest logit, and "
            f"{TOLERANCE:.1e} is allowed"
        )
    return told


def _as_read(config: Any) -> Any:
    """The configuration of what a GGUF file says that it holds: of a Mistral, a Llama."""
    name = layout_of(config).name
    if name == config.model_type:
        return config
    left_out = ("model_type", "architectures", "sliding_window", "transformers_version")
    return AutoConfig.for_model(name, **{k: v for k, v in config.to_dict().items() if k not in left_out})
