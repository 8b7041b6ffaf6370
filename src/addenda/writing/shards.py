"""Shards: what a teacher said of each token of a text, on disk, read as it is needed, shared by all runs that ask the same.

A folder has one folder for each shard, with `rows.npy`: an array of one entry for each token that is learned, in the text's
order, and `shard.json` with its hash. Shards end between records, and each is written whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from addenda.core.errors import FileError
from addenda.core.files import read_json, replace_folder, sha256_of, write_text
from addenda.objectives.objective import Objective, Taught
from addenda.telling.progress import tick

ROWS, FACTS, LOCK = "rows.npy", "shard.json", "lock"
MEMBERS = frozenset({ROWS, FACTS})
#: bytes of a shard, about: what is lost at most of a teacher's work when it is killed
SHARD = 2**22
#: what a file has beside its rows
_HEADER = 512


def layout_of(objective: Objective, vocabulary: int) -> np.dtype[Any]:
    """What is kept of one token: log-probabilities in half precision, ids in two bytes where the vocabulary allows it."""
    small = np.uint16 if vocabulary <= 2**16 else np.int32
    fields: list[tuple[str, Any, tuple[int, ...]]] = []
    for number, part in enumerate(objective.teach(torch.zeros(1, vocabulary))):
        kept = np.float16 if part.is_floating_point() else small
        fields.append((f"part{number}", kept, tuple(part.shape[1:])))
    return np.dtype(fields)


def packed(taught: Taught, layout: np.dtype[Any]) -> np.ndarray:
    """What a teacher left of n tokens as n entries of a shard; what half precision has no number for is its smallest."""
    rows = np.zeros(len(taught[0]), layout)
    for name, part in zip(layout.names or (), taught, strict=True):
        values = part.clamp(min=-6e4) if part.is_floating_point() else part
        rows[name] = values.cpu().numpy()
    return rows


def unpacked(rows: np.ndarray) -> Taught:
    """The way back: float32 log-probabilities, int64 ids."""
    return tuple(
        torch.from_numpy(rows[name].astype(np.float32 if rows[name].dtype.kind == "f" else np.int64))
        for name in rows.dtype.names or ()
    )


class Shards:
    """The shards of one text. `sizes` says how many rows each has; what a row is, `layout`."""

    def __init__(self, folder: Path, sizes: Sequence[int], layout: np.dtype[Any]) -> None:
        self.folder, self.sizes, self.layout = folder, list(sizes), layout
        self.ends = np.cumsum(self.sizes, dtype=np.int64)
        self._open: dict[int, np.ndarray] = {}

    @property
    def bytes(self) -> int:
        """What all of them take on disk."""
        return int(sum(self.sizes)) * self.layout.itemsize + len(self.sizes) * _HEADER

    def place(self, number: int) -> Path:
        """The folder of one shard."""
        return self.folder / f"shard-{number:05d}"

    def missing(self) -> list[int]:
        """Shards that are not there whole; one that is damaged is removed, to be made anew."""
        gone: list[int] = []
        for number in range(len(self.sizes)):
            tick()
            if number not in self._open and not self._take(number):
                shutil.rmtree(self.place(number), ignore_errors=True)
                gone.append(number)
        return gone

    def _take(self, number: int) -> bool:
        """Open a shard, if it is there and whole."""
        place = self.place(number)
        facts = read_json(place, FACTS, []) if place.is_dir() else None
        if facts is None:
            return False
        try:
            if facts.get("sha256") != sha256_of(place / ROWS):
                return False
            rows = np.load(place / ROWS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return False
        if rows.dtype != self.layout or rows.shape != (self.sizes[number],):
            return False
        self._open[number] = rows
        return True

    def write(self, number: int, rows: np.ndarray) -> None:
        """Write one shard, whole or not at all.

        Raises:
            FileError: it cannot be written, for want of space or else; those that are there stay.
        """

        def fill(folder: Path) -> None:
            np.save(folder / ROWS, rows, allow_pickle=False)
            facts = {"sha256": sha256_of(folder / ROWS), "rows": len(rows)}
            write_text(folder / FACTS, json.dumps(facts) + "\n")

        replace_folder(self.place(number), MEMBERS, fill, rows.nbytes + 2**12, "teacher's shard")
        self._take(number)

    def rows(self, at: np.ndarray) -> np.ndarray:
        """Rows by their numbers [n] in the whole text; zeros for -1."""
        found = np.zeros(len(at), self.layout)
        wanted = (at >= 0).nonzero()[0]
        shard = np.searchsorted(self.ends, at[wanted], side="right")
        for number in np.unique(shard).tolist():
            here = wanted[shard == number]
            found[here] = self._open[number][at[here] - (self.ends[number] - self.sizes[number])]
        return found


def check_space(folder: Path, size: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        FileError: says what is needed and what is free.
    """
    above = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(above).free
    if free < size:
        raise FileError(
            f"what the teacher says takes {size:,} bytes in {folder}, and {free:,} are free: give another folder (teacher=), "
            "a smaller top_k, or fewer records"
        )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder of shards against others that would write the same; wait for them, for their work is ours too.

    Raises:
        FileError: nothing can be written there.
        Stopped: a signal came while waiting.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            with suppress(Timeout):
                lock.acquire(timeout=0.5)
            tick()
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
