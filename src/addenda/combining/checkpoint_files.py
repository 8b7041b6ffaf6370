"""The files of a plain checkpoint: weights in shards, index, configuration, tokenizer, manifest; whole or not at all."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from addenda.combining.manifest import MANIFEST, Manifest
from addenda.core.errors import AddendaError
from addenda.core.files import check_place, read_json, replace_folder, write_text
from addenda.modulefile.tensorfile import write_tensors
from addenda.telling.progress import tick

INDEX = "model.safetensors.index.json"
#: transformers asks a checkpoint where it comes from
METADATA = {"format": "pt"}


def check_out(out: Path) -> None:
    """Find out before any work whether a checkpoint can be put there.

    Raises:
        FileError: it holds something else than an earlier merge.
    """
    check_place(out, _members(out), "merged checkpoint")


def check_saving(config: Any, model: Any, tokenizer: Any) -> None:
    """Find out before any weight is read whether what stands beside the weights can be saved.

    Raises:
        AddendaError: transformers will not save one of them; says which, why, and what to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        for what, part in _beside(config, model, tokenizer):
            try:
                part.save_pretrained(folder)
            except Exception as error:  # whatever transformers checks
                told = " ".join(str(error).split())
                raise AddendaError(
                    f"nothing was merged: transformers will not save the base's {what} ({textwrap.shorten(told, 300)}); "
                    f"mend it first (base.{_PLACE[what]})"
                ) from error


_PLACE = {"configuration": "model.config", "generation_config": "model.generation_config", "tokenizer": "tokenizer"}


def _beside(config: Any, model: Any, tokenizer: Any) -> Iterator[tuple[str, Any]]:
    """What stands beside the weights, as far as there is any."""
    yield "configuration", config
    if getattr(model, "generation_config", None) is not None:
        yield "generation_config", model.generation_config
    if tokenizer is not None:
        yield "tokenizer", tokenizer


def _members(out: Path) -> set[str]:
    """The files of the merge that stands there, which a new one replaces."""
    told = read_json(out, MANIFEST, []) if (out / MANIFEST).is_file() else None
    files = told.get("files") if told is not None else None
    return {MANIFEST, *(str(name) for name in files)} if isinstance(files, list) else {MANIFEST}


class Source(Protocol):
    """What a checkpoint is written from: a `Folding` or `Narrowing`."""

    def config(self) -> Any:
        """Its configuration."""
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Its tensors by name, one at a time."""
        ...


def write_checkpoint(
    model: Any,
    tokenizer: Any,
    source: Source,
    out: Path,
    dtype: torch.dtype,
    shard_bytes: int,
    finish: Callable[[Path], Manifest],
) -> tuple[tuple[str, ...], int]:
    """Write a checkpoint changed from that of `model`; returns its files and the size of its weights in bytes.

    `finish` looks at the folder before it is put in its place, and gives what the manifest says; if it raises, nothing
    is left.
    """
    names: tuple[str, ...] = ()
    size = 0

    def fill(folder: Path) -> None:
        nonlocal names, size
        size = _write_weights(source, folder, dtype, shard_bytes)
        config = source.config()
        config.dtype = dtype
        config.architectures = [type(model).__name__]
        for _, part in _beside(config, model, tokenizer):
            part.save_pretrained(folder)
        manifest = finish(folder)
        names = (*sorted(entry.name for entry in folder.iterdir()), MANIFEST)
        manifest.files = list(names)
        write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")

    about = sum(p.numel() for p in model.parameters()) * dtype.itemsize
    replace_folder(out, _members(out), fill, about, "merged checkpoint")
    return names, size


def _write_weights(source: Source, folder: Path, dtype: torch.dtype, shard_bytes: int) -> int:
    """Write tensors shard by shard, never more than one shard in memory; returns their bytes."""
    held: dict[str, Tensor] = {}
    size, total, shards, where = 0, 0, 0, dict[str, int]()

    def flush() -> None:
        nonlocal size, shards
        shards += 1
        write_tensors(folder / f"shard-{shards}", held, METADATA)
        held.clear()
        size = 0

    for name, tensor in source.tensors():
        tick()
        tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
        bytes_ = tensor.numel() * tensor.dtype.itemsize
        if held and size + bytes_ > shard_bytes:
            flush()
        held[name] = tensor
        where[name] = shards + 1
        size, total = size + bytes_, total + bytes_
    flush()
    if shards == 1:
        (folder / "shard-1").rename(folder / "model.safetensors")
        return total
    files = {n: f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)}
    for number, file in files.items():
        (folder / f"shard-{number}").rename(folder / file)
    index = {"metadata": {"total_size": total}, "weight_map": {name: files[n] for name, n in sorted(where.items())}}
    write_text(folder / INDEX, json.dumps(index, indent=1) + "\n")
    return total
