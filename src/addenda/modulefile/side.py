"""Side tensors of a module in a file of their own: what methods keep beside it, without which it works all the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from addenda.core.files import sha256_of
from addenda.modulefile.tensorfile import read_header, read_tensors, write_tensors

SIDE = "side.safetensors"


def write_side(folder: Path, side: Mapping[str, Tensor], schema: int) -> str | None:
    """Write side tensors into a new folder; their hash, None where there are none."""
    if not side:
        return None
    return write_tensors(folder / SIDE, side, {"format": "addenda side", "schema": str(schema)})


def read_side(folder: Path, digest: str | None, problems: list[str]) -> dict[str, Tensor]:
    """The side tensors that a card speaks of; none where the file was left out, for the module works without.

    Args:
        folder: a module's folder.
        digest: the file's hash, as the card has it; None where the card knows of no side tensors.
        problems: where a file that is there and is not sound is noted.
    """
    if digest is None or not (folder / SIDE).exists():
        return {}
    header = read_header(folder, SIDE, problems)
    if header is None:
        return {}
    if sha256_of(folder / SIDE) != digest:
        problems.append(f"{SIDE} is not the file that the card describes; delete it, or fetch the folder again")
        return {}
    return read_tensors(folder, SIDE, header.specs, problems)
