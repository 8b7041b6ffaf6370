"""Tensor files: safetensors, checked to the last byte before a tensor is read, and written the same every time."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from addenda.core.errors import FileError
from addenda.core.files import member, several, shown, strict_json

#: an honest header has some hundred bytes a tensor
MAX_HEADER, MAX_AXES = 16 << 20, 8

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_NAME = 256


@dataclass(frozen=True)
class Spec:
    """Dtype and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Spec:
        """The spec of a tensor at hand."""
        return cls(tensor.dtype, tuple(tensor.shape))

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


@dataclass(frozen=True)
class Header:
    """What the header of a tensor file says, once it has been checked against the file."""

    specs: dict[str, Spec]
    metadata: dict[str, str]


def read_header(folder: Path, name: str, problems: list[str]) -> Header | None:
    """Check a safetensors file to the last byte, reading no tensor; None, with the problems noted, if unsound."""
    path = member(folder, name, problems)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 10:
                raise ValueError(f"{size} bytes are too few for a header: truncated")
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise ValueError(f"the header claims {length:,} bytes; the limit is {MAX_HEADER:,}")
            if 8 + length > size:
                raise ValueError(f"the header claims {length:,} bytes, the file has {size:,}: truncated or forged")
            raw = file.read(length)
        if not raw.startswith(b"{"):
            raise ValueError("the header does not begin with '{'")
        entries = strict_json(raw, depth=4)
    except (OSError, ValueError) as error:
        problems.append(f"{name}: {error}")
        return None
    metadata = entries.pop("__metadata__", None) or {}
    wrong: list[str] = []
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        wrong.append("__metadata__ is not a map of strings to strings")
    specs, spans = {}, []
    for tensor, entry in entries.items():
        try:
            specs[tensor], begin, end = _entry(tensor, entry)
            spans.append((begin, end, tensor))
        except ValueError as error:
            wrong.append(f"tensor {shown(tensor)} {error}")
    if not wrong:
        wrong = _layout(sorted(spans), size - 8 - length)
    problems.extend(f"{name}: {problem}" for problem in wrong)
    return None if wrong else Header(specs, metadata)


def _entry(name: str, entry: Any) -> tuple[Spec, int, int]:
    """Spec, begin and end of one tensor; ValueError with the reason where the entry is unsound."""
    if len(name) > _MAX_NAME or not _TENSOR_NAME.fullmatch(name):
        raise ValueError("has a name that is not dotted words: refused, as a path would be")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"has dtype {shown(dtype)}; allowed are {', '.join(DTYPES)}")
    if not _counts(shape) or len(shape) > MAX_AXES:
        raise ValueError(f"has the shape {shown(shape)}; a shape is at most {MAX_AXES} whole numbers")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"has the offsets {shown(offsets)}; they are a begin and an end")
    spec = Spec(DTYPES[dtype], tuple(shape))
    claimed, spans = math.prod(shape) * spec.dtype.itemsize, offsets[1] - offsets[0]
    if claimed != spans:
        raise ValueError(f"is {spec}, {claimed:,} bytes, but its offsets span {spans:,}")
    return spec, offsets[0], offsets[1]


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _layout(spans: list[tuple[int, int, str]], data: int) -> list[str]:
    """What is wrong with sorted spans that should cover `data` bytes: overlaps, holes, bytes too few or too many."""
    wrong, at, before = [], 0, "the header"
    for begin, end, name in spans:
        if begin < at:
            wrong.append(f"tensor {name} overlaps {before}")
        elif begin > at:
            wrong.append(f"there is a hole of {begin - at:,} bytes between {before} and tensor {name}")
        at, before = max(at, end), f"tensor {name}"
    if at > data:
        wrong.append(f"the tensors claim {at:,} bytes, the file holds {data:,}: truncated or forged")
    elif at < data:
        wrong.append(f"{data - at:,} bytes after the last tensor belong to nothing")
    return wrong


def read_tensors(folder: Path, name: str, wanted: Iterable[str], problems: list[str]) -> dict[str, Tensor]:
    """Some tensors of a file whose header was checked, in memory of their own; values that are not finite are noted."""
    tensors: dict[str, Tensor] = {}
    broken: list[str] = []
    try:
        with safe_open(str((folder / name).resolve()), framework="pt", device="cpu") as file:
            for key in wanted:
                tensors[key] = file.get_tensor(key).clone()
                if not finite(tensors[key]):
                    broken.append(key)
    except (OSError, MemoryError, RuntimeError, SafetensorError) as error:  # torch runs out of memory by RuntimeError
        problems.append(f"{name} cannot be read: {error}")
    if broken:
        problems.append(f"{name} holds NaN or infinite values in {several(broken)}")
    return tensors


def finite(tensor: Tensor) -> bool:
    """Whether every value is a number."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file, the same bytes every time, and return its sha256."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for piece in pieces(tensors, metadata):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """The bytes of a safetensors file, piece by piece, the same every time and on whatever device the tensors are.

    Made here and not by the safetensors library, whose metadata comes in random order; it reads what this makes.
    """
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name in ordered:
        tensor = tensors[name]
        if tensor.dtype not in _CODES:
            raise FileError(f"tensor {name} is {tensor.dtype}, which a module's file cannot hold")
        end = at + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    yield len(raw).to_bytes(8, "little")
    yield raw
    for name in ordered:
        flat = tensors[name].detach().to("cpu").contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data if flat.numel() else b""
