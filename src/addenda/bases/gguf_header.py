"""The head of a GGUF file, read without trust: what it says of its model, and where its tensors should lie.

Small and fast: arrays, a vocabulary above all, are stepped over. Format: ggml's `docs/gguf.md`, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

#: struct's codes by GGUF's numbers for values of one size: 0 to 7 and 10 to 12
_CODES: dict[int, str] = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIifBQqd", strict=True))
_STRING, _ARRAY = 8, 9
#: arrays of numbers up to this length are kept, others are known by their length alone
_KEPT = 512


class GGUFError(ValueError):
    """The file is no whole GGUF; says what is wrong with it, as the end of a sentence that names the file."""


@dataclass(frozen=True)
class Header:
    """Metadata by key (a long array is its length), tensors' shapes by name, and the bytes that the file should have."""

    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    #: where each tensor of plain 32-bit floats begins
    floats: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def architecture(self) -> str:
        """GGUF's name of the architecture."""
        return str(self.metadata.get("general.architecture", ""))

    def own(self, key: str) -> Any:
        """A value under the architecture's name, e.g. `rope.freq_base`; None where there is none."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read_header(path: Path) -> Header:
    """Read and check the head of a GGUF file, and that the file is as long as it says.

    Raises:
        GGUFError: it is not one, or it is cut off or damaged.
        OSError: it cannot be opened.
    """
    if path.stat().st_size == 0:
        raise GGUFError("is empty")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise GGUFError("is not a GGUF file: it does not begin with the letters GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                return _parse(view)
            except (struct.error, IndexError, UnicodeDecodeError, OverflowError, MemoryError):
                raise GGUFError("is cut off or damaged: its head cannot be read to the end") from None


def _parse(view: mmap.mmap) -> Header:
    version, count, keys = struct.unpack_from("<IQQ", view, 4)
    if version not in (2, 3):
        raise GGUFError(f"is a GGUF of version {version if version < 1 << 16 else '?'}; versions 2 and 3 can be read")
    place = 24
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key, place = _string(view, place)
        (kind,) = struct.unpack_from("<I", view, place)
        metadata[key], place = _value(view, place + 4, kind)
    tensors: dict[str, tuple[int, ...]] = {}
    lies: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        name, place = _string(view, place)
        (axes,) = struct.unpack_from("<I", view, place)
        if axes > 8:
            raise IndexError
        shape = struct.unpack_from(f"<{axes}Q", view, place + 4)
        lies[name] = struct.unpack_from("<IQ", view, place + 4 + 8 * axes)
        tensors[name] = tuple(reversed(shape))
        place += 16 + 8 * axes
    align = metadata.get("general.alignment", 32)
    if not isinstance(align, int) or align < 1:
        raise IndexError
    start = -(-place // align) * align
    ends = [start + at + _bytes(kind, tensors[name]) for name, (kind, at) in lies.items()]
    if ends and max(ends) > len(view):
        raise GGUFError(f"is cut off: it has {len(view):,} bytes of {max(ends):,}; fetch it again")
    return Header(metadata, tensors, {name: start + at for name, (kind, at) in lies.items() if kind == 0})


def step_over(view: Any, place: int) -> int | None:
    """Where a long array that begins at `place` ends; None where it is a short one."""
    _, count = struct.unpack_from("<IQ", view, place)
    return _array(view, place)[1] if count > _KEPT else None


def _string(view: mmap.mmap, place: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", view, place)
    end = place + 8 + length
    if end > len(view):
        raise IndexError
    return view[place + 8 : end].decode("utf-8"), end


def _value(view: mmap.mmap, place: int, kind: int) -> tuple[Any, int]:
    """One value, and where the next begins."""
    if kind == _STRING:
        return _string(view, place)
    if kind == _ARRAY:
        return _array(view, place)
    code = f"<{_CODES.get(kind, '')}"
    if len(code) == 1:
        raise IndexError
    (value,) = struct.unpack_from(code, view, place)
    return bool(value) if kind == 7 else value, place + struct.calcsize(code)


def _array(view: mmap.mmap, place: int) -> tuple[Any, int]:
    kind, count = struct.unpack_from("<IQ", view, place)
    place += 12
    if kind == _STRING:
        for _ in range(count):
            (length,) = struct.unpack_from("<Q", view, place)
            place += 8 + length
        return count, place
    if kind not in _CODES:
        raise IndexError  # arrays of arrays: no model has them
    size = struct.calcsize(f"<{_CODES[kind]}")
    end = place + count * size
    if end > len(view):
        raise IndexError
    kept = list(struct.unpack_from(f"<{count}{_CODES[kind]}", view, place)) if count <= _KEPT else count
    return kept, end


def _bytes(kind: int, shape: tuple[int, ...]) -> int:
    """How many bytes a tensor takes; none where the `gguf` package does not know its numbers."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        return 0
    return prod(shape) // block * size
