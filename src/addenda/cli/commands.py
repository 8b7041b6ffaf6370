"""Commands to go on with, as they are printed: each runs as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

#: words of a text that begin a prompt: enough for most gates that read the document so far
WORDS, CHARACTERS = 30, 200


def command(verb: str, *words: str | Path, base: str, dtype: Any = None, device: str | None = None) -> str:
    """A command of the verb, with the base that was asked for, its precision and its device."""
    where = [] if base == "tiny" else ["--base", base]
    precision = getattr(dtype, "value", dtype)
    where += ["--dtype", precision] if precision not in (None, "auto") else []
    where += ["--device", device] if device is not None else []
    return shlex.join(["addenda", verb, *map(str, words), *where])


def look(folder: Path, text: Any, given: Mapping[str, Any]) -> str:
    """The command that shows what a module does to the beginning of a text, beside the bare base.

    `given` holds what the verb was told: base, dtype, device. Running text is gone on with as it stands.
    """
    prompt, raw = beginning(text)
    more = ["--raw"] if raw else []
    where = {name: given[name] for name in ("base", "dtype", "device")}
    return command("generate", prompt, "--plug", folder, "--side-by-side", *more, **where)


def beginning(text: Any) -> tuple[str, bool]:
    """The first words of a text, and whether they are running text (else what a user says first in a chat)."""
    from addenda.text.texts import texts

    record: Mapping[str, Any] = next(iter(texts(text)), {})
    said: Any = record.get("text") or record.get("messages") or record.get("prompt") or ""
    if not isinstance(said, str):
        said = next((message["content"] for message in said if message["role"] == "user"), "")
    words = " ".join(said[: 4 * CHARACTERS].split()[:WORDS])
    words = words if len(words) <= CHARACTERS else words[:CHARACTERS].rpartition(" ")[0] or words[:CHARACTERS]
    return words.lstrip("-").strip() or "The", "text" in record


def show_next(out: Console, *lines: str | None, saved: Any = None) -> None:
    """Print commands, each on a line of its own, never broken; and before them where something was saved."""
    if saved is not None:
        out.print(f"saved in {saved}", markup=False, soft_wrap=True)
    for line in filter(None, lines):
        out.print(f"next: {line}", markup=False, soft_wrap=True)
