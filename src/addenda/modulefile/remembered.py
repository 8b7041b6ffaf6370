"""What a text memory holds, in a file of its own in the module's folder: plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, FileError
from addenda.core.files import MAX_JSON, read_json, sha256_of, write_text

MEMORY = "memory.json"


def write_memory(folder: Path, held: Mapping[str, Any] | None) -> str | None:
    """Write what a memory holds into a new folder; the file's hash, None for a module that is no text memory.

    Raises:
        FileError: it is larger than what is read again.
    """
    if held is None:
        return None
    text = json.dumps(held, ensure_ascii=False, indent=1) + "\n"
    if len(text.encode()) > MAX_JSON:
        raise FileError(
            f"what the memory holds has {len(text.encode()):,} bytes, and the limit is {MAX_JSON:,}; make one that keeps fewer "
            "passages: kept="
        )
    write_text(folder / MEMORY, text)
    return sha256_of(folder / MEMORY)


def read_memory(folder: Path, digest: str | None, kind: Kind | None, problems: list[str]) -> dict[str, Any] | None:
    """What a memory holds, checked; None for a module that is no text memory. What is wrong is noted."""
    if kind is None or kind.blank() is None:
        return None
    held = read_json(folder, MEMORY, problems)
    if held is None:
        return None
    if digest != sha256_of(folder / MEMORY):
        problems.append(f"{MEMORY} is not the file that the card describes")
        return None
    try:
        return kind.restored(held)
    except AddendaError as error:
        problems.append(f"{MEMORY}: {error}")
        return None
