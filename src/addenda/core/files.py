"""Files and folders: read without trust, written whole or not at all, the same bytes every time.

Reading collects what is wrong in a list, so that one error can tell all of it. No path is taken from inside a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from addenda.core.errors import FileError

#: a JSON file of more than a megabyte, or nested deeper, is no honest card
MAX_JSON, MAX_DEPTH = 1 << 20, 32
#: digits of a whole number; Python refuses more than 4,300 in a way of its own
MAX_DIGITS = 1000
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
#: how many names one line of an error lists
SHOWN = 20


def refuse(what: str, problems: Collection[str]) -> NoReturn:
    """Raise one FileError that lists every problem."""
    if len(problems) == 1:
        raise FileError(f"{what}: {next(iter(problems))}")
    listed = "".join(f"\n  - {problem}" for problem in problems)
    raise FileError(f"{what}: {len(problems)} things are wrong:{listed}")


def shown(value: object) -> str:
    """A value found in a file, safe to print: no control characters, not long."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def several(names: Iterable[str], what: str = "tensor") -> str:
    """Names for one line of an error: `2 tensors: a, b`."""
    have = sorted(names)
    rest = f" and {len(have) - SHOWN} more" if len(have) > SHOWN else ""
    plural = "" if len(have) == 1 else "s"
    return f"{len(have)} {what}{plural}: {', '.join(have[:SHOWN])}{rest}"


# --- reading ---------------------------------------------------------------------------------------------------------


def member(folder: Path, name: str, problems: list[str]) -> Path | None:
    """The regular file `name` of a folder; None, with the problem noted, where there is none or it lies elsewhere.

    A link may point inside the folder, and, in the hub's cache, from a snapshot to the blobs beside it.
    """
    path = folder / name
    try:
        real, home = path.resolve(strict=True), folder.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError:
        problems.append(f"{name} is a dangling link" if path.is_symlink() else f"{name} is missing")
        return None
    except (OSError, RuntimeError) as error:  # a link that points to itself is a RuntimeError before 3.13
        problems.append(f"{name} cannot be opened: {error}")
        return None
    cache = home.parents[1] if len(home.parents) > 1 else home
    blobs = cache / "blobs" if cache.name.startswith("models--") and home.parent.name == "snapshots" else None
    if real.parent not in (home, blobs):
        problems.append(f"{name} is a link that points outside the folder")
        return None
    if not stat.S_ISREG(mode):
        problems.append(f"{name} is not a regular file")
        return None
    return real


def strict_json(raw: bytes, depth: int = MAX_DEPTH) -> Any:
    """Parse JSON: UTF-8, no key twice, no NaN or infinity, no half of a surrogate pair, nested at most `depth` deep.

    Raises:
        ValueError: with the reason.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"duplicate key {shown(twice)}")
        return made

    def constant(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON number")

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"a whole number of {len(digits):,} digits; the limit is {MAX_DIGITS:,}")
        return int(digits)

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant, parse_int=whole)
    except RecursionError:
        raise ValueError(f"nested deeper than {depth} levels") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None
    halves = _HALF.search(raw) is not None  # only an escape can stand for half a pair: UTF-8 has none
    level: list[Any] = [value]
    for _ in range(depth):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise ValueError("a number is too large for a float")
        if halves and any(_has_half(item) for item in level):
            raise ValueError("a text has half a surrogate pair, which no encoding can write")
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in cast("Iterable[Any]", item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return value
    raise ValueError(f"nested deeper than {depth} levels")


def _has_half(item: Any) -> bool:
    """Whether a text, or a key of an object, holds half a surrogate pair."""
    texts: Iterable[str] = (
        cast("dict[str, Any]", item) if isinstance(item, dict) else [item] if isinstance(item, str) else ()
    )
    return any("\ud800" <= letter <= "\udfff" for text in texts for letter in text)


def cache_folder(part: str) -> Path:
    """Where what is made once for all projects is kept: `addenda/PART` in the user's cache folder (`XDG_CACHE_HOME`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "addenda" / part


def kept_json(path: Path) -> Any:
    """What stands in a JSON file that this library wrote earlier.

    Raises:
        FileError: it cannot be read, or was damaged since; says which.
    """
    try:
        return strict_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read ({error}); remove it, and it is made anew") from None


def read_json(folder: Path, name: str, problems: list[str]) -> dict[str, Any] | None:
    """The JSON object in a folder's file; None, with the problem noted, where it is not one."""
    path = member(folder, name, problems)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_JSON + 1)
        if len(raw) > MAX_JSON:
            problems.append(f"{name} has {path.stat().st_size:,} bytes; the limit is {MAX_JSON:,}")
            return None
        value = strict_json(raw)
    except (OSError, ValueError) as error:
        problems.append(f"{name} is malformed: {error}")
        return None
    if not isinstance(value, dict):
        problems.append(f"{name} holds a {type(value).__name__}, not an object")
        return None
    return cast("dict[str, Any]", value)


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing ---------------------------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a text file through to the disk."""
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Write a text file in the place of an old one, if there is one: whole or not at all.

    Raises:
        FileError: it cannot be written; what was there is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        write_text(temporary, text)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FileError(f"'{path}' cannot be written: {error.strerror or error}") from None


def replace_folder(
    folder: Path, members: Collection[str], fill: Callable[[Path], None], size: int = 0, what: str = "module"
) -> None:
    """Put a new folder, filled by `fill`, in the place of an old one: all of it or nothing.

    It is written beside its place and then changes places with what stood there. An existing folder may hold nothing,
    or the `members` of `what` is written and nothing else. `size` is about how many bytes will be written.

    Raises:
        FileError: the folder holds something else, or cannot be written; what stood there is untouched.
    """
    place = check_place(folder, members, what)
    temporary: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear_killed(place.parent)
        free = shutil.disk_usage(place.parent).free
        if free < size:
            raise OSError(f"no space left on device: {size:,} bytes are needed, {free:,} are free")
        temporary = _beside(place.parent)
        fill(temporary)
        _sync(temporary)
        _swap(temporary, place)
        _sync(place.parent)
    except OSError as error:
        raise _unwritten(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _beside(parent: Path) -> Path:
    """A new folder in which something is written until it is whole."""
    made = parent / f"{_mine()}{os.getpid()}-{secrets.token_hex(6)}.tmp"
    made.mkdir()
    return made


def _unwritten(folder: Path, error: OSError) -> FileError:
    return FileError(f"cannot write '{folder}': {error.strerror or error}; what stood there is untouched")


@cache
def _mine() -> str:
    """How what this machine writes is called until it is whole; the process and a random part follow."""
    return f".addenda-{uuid.getnode():012x}-"


def _clear_killed(folder: Path) -> None:
    """Remove what processes of this machine left half written when they were killed."""
    if os.name != "posix":
        return
    for left in folder.glob(f"{_mine()}*-*.tmp"):
        process = left.name.removeprefix(_mine()).partition("-")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (ValueError, OSError):  # not one of ours, or somebody else's, and alive
            continue


#: members that a whole folder may do without
_SPARED = frozenset({"README.md", "side.safetensors", "memory.json"})


def check_place(folder: Path, members: Collection[str], what: str = "module") -> Path:
    """Where `replace_folder` would put a folder, found before there is anything to put there.

    Raises:
        FileError: it is a file or lies in one, is a link without an end, a folder that holds something else than the
            `members`, or nothing can be written beside it.
    """
    place = Path(os.path.realpath(folder.expanduser()))  # through a link, not over it
    loop = next((part for part in (place, *place.parents) if part.is_symlink()), None)  # a link that has no end
    if loop is not None:
        raise FileError(f"cannot write '{folder}': '{loop}' is a link that leads back to itself")
    above = next((parent for parent in place.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise FileError(f"cannot write '{folder}': '{above}' is a file; what stood there is untouched")
    if above is not None:
        try:  # rights tell less: a disk may be read-only, and a superuser has all of them
            _beside(above).rmdir()
        except OSError as error:
            raise _unwritten(folder, error) from None
    if not place.exists():
        return place
    if not place.is_dir():
        raise FileError(f"'{folder}' is a file; give a new or empty folder")
    entries = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in place.iterdir())
    foreign = [name for name in entries if name not in members]
    if foreign:
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise FileError(
            f"'{folder}' holds what is not a {what}'s ({', '.join(foreign[:5])}{more}) and is left as it is; "
            "give a new or empty folder"
        )
    needed = [name for name in members if name not in _SPARED]
    if entries and not all(name in entries for name in needed):
        raise FileError(
            f"'{folder}' holds {', '.join(entries)} but no whole {what} ({', '.join(needed)}) and is left as it is; "
            "give a new or empty folder"
        )
    return place


def _sync(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(new: Path, place: Path) -> None:
    """Move `new` to `place`; a full folder that stood there is afterwards at `new`."""
    if place.exists() and any(place.iterdir()):
        if _exchange(new, place):
            return
        aside = new.with_suffix(".old")
        place.rename(aside)
        try:
            new.rename(place)
        except OSError:
            aside.rename(place)
            raise
        aside.rename(new)
        return
    if place.exists() and os.name != "posix":
        place.rmdir()
    new.rename(place)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; False where the system or the disk cannot."""
    if not sys.platform.startswith("linux"):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
