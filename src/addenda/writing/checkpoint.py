"""Checkpoints: everything a run needs to go on bit by bit, written whole or not at all, the last good ones kept.

A checkpoint is a folder `step-00000120` with `state.safetensors` (parameters, moments, random state) and `state.json`
(position in the data, settings, validation) that holds the hash of the first. Of a finished run only `finished.json` stays.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from addenda.core.errors import FileError, TrainingError
from addenda.core.files import read_json, replace_folder, replace_text, sha256_of, write_text
from addenda.modulefile.tensorfile import read_header, read_tensors, write_tensors

TENSORS, STATE = "state.safetensors", "state.json"
#: what a finished run leaves beside its log: the state at its end, without tensors, which are the module's
FINISHED = "finished.json"
#: is there while a process trains into the folder
LOCK = "lock"
_NAME = re.compile(r"step-\d{8}")


@dataclass(frozen=True)
class Checkpoint:
    """A run as it stood after `step` steps."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]


def run_folder(out: str | Path) -> Path:
    """Where a run that will save its module in `out` keeps log and checkpoints: `out` with `.run` after its name."""
    out = Path(out)
    return out.with_name(out.name + ".run")


def begin(out: Path | None, resume: bool) -> Path | None:
    """The run folder of a run that begins or goes on, made and cleared; None where nothing is to be written.

    Raises:
        TrainingError: there is nothing to resume without `out`, an earlier run stands there, or it cannot be written.
    """
    if out is None:
        if resume:
            raise TrainingError("there is nothing to resume without out=: give the folder of the interrupted run")
        return None
    run = check_begin(out, resume)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot write to {run}: {error.strerror or error}") from None
    clear(run)
    if not resume:
        (run / FINISHED).unlink(missing_ok=True)  # of a run whose module was removed
    return run


def check_begin(out: Path, resume: bool) -> Path:
    """The run folder beside a module's, where a run may begin or go on; nothing is made there.

    Raises:
        TrainingError: an earlier run stands there, which is not to be gone on with.
    """
    run = run_folder(out)
    if not resume and (out / "card.json").exists() and (folders(run) or (run / FINISHED).exists()):
        raise TrainingError(f"{out} is there and finished: another out=, or removing it and {run}, starts anew")
    if not resume and folders(run):
        raise TrainingError(
            f"{run} holds the checkpoints of an earlier run: resume=True goes on with it if it was interrupted, "
            "finish=True keeps the module as it was at the last of them; another out=, or removing that folder, starts anew"
        )
    return run


@contextmanager
def held(run: Path | None) -> Iterator[None]:
    """Hold a run folder against other processes for a block.

    Raises:
        TrainingError: another process trains into it.
    """
    if run is None:
        yield
        return
    lock = FileLock(run / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(f"another process is training into {run}; wait for it, or give another out=") from None
    except OSError as error:
        raise TrainingError(f"cannot write to {run}: {error.strerror or error}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            (run / LOCK).unlink(missing_ok=True)
        lock.release()


def finish(run: Path, step: int, state: Mapping[str, Any], keep: bool) -> int:
    """Mark a run as finished, its module being saved, and remove its checkpoints unless they are to be kept.

    Returns the bytes that were removed.
    """
    clear(run)
    replace_text(run / FINISHED, json.dumps({**state, "step": step}, allow_nan=False))
    gone = [] if keep else folders(run)
    size = sum(file.stat().st_size for folder in gone for file in folder.iterdir())
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return size


def finished(run: Path) -> dict[str, Any] | None:
    """The state at the end of a finished run; None where it is not finished."""
    return read_json(run, FINISHED, []) if (run / FINISHED).is_file() else None


def leave(run: Path | None) -> None:
    """Remove the run folder of a run that ended before it had anything to keep; any other stays."""
    if run is not None and run.is_dir() and not any(run.iterdir()):
        run.rmdir()


def last_good(run: Path | None) -> str:
    """The end of a sentence on a failure: which checkpoint is the last good one; nothing where none is written."""
    if run is None:
        return ""
    kept = folders(run)
    return f". The last good checkpoint is {kept[-1]}" if kept else ". There is no checkpoint yet"


def write(run: Path, step: int, state: Mapping[str, Any], tensors: Mapping[str, Tensor], keep: int) -> Path:
    """Write a checkpoint, then remove all but the last `keep`.

    Raises:
        TrainingError: it cannot be written, for want of space or else; says which checkpoint is the last good one.
    """
    folder = run / f"step-{step:08d}"

    def fill(temporary: Path) -> None:
        digest = write_tensors(temporary / TENSORS, tensors, {"format": "addenda training state"})
        write_text(temporary / STATE, json.dumps({**state, "step": step, "sha256": digest}, allow_nan=False))

    size = sum(t.numel() * t.element_size() for t in tensors.values()) + 2**16
    try:
        replace_folder(folder, {TENSORS, STATE}, fill, size)
    except FileError as error:
        kept = folders(run)
        last = f"the last good one is {kept[-1]}" if kept else "there is none yet"
        raise TrainingError(f"the checkpoint after step {step} was not written: {error}; {last}") from error
    for old in folders(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def folders(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not run.is_dir():
        return []
    return sorted(entry for entry in run.iterdir() if _NAME.fullmatch(entry.name) and entry.is_dir())


def newest(run: Path) -> Checkpoint | None:
    """The last checkpoint that is whole; a broken one is passed over. None where there is none at all.

    Raises:
        TrainingError: there are checkpoints, and all are broken; lists what is wrong with the newest.
    """
    wrong: list[str] = []
    for folder in reversed(folders(run)):
        problems: list[str] = []
        checkpoint = _read(folder, problems)
        if checkpoint is not None:
            return checkpoint
        wrong = wrong or problems
    if wrong:
        raise TrainingError(f"no checkpoint in {run} can be read: {'; '.join(wrong)}")
    return None


def _read(folder: Path, problems: list[str]) -> Checkpoint | None:
    state = read_json(folder, STATE, problems)
    header = read_header(folder, TENSORS, problems)
    if state is None or header is None:
        return None
    if state.get("sha256") != sha256_of(folder / TENSORS):
        problems.append(f"{folder / TENSORS} is not the file that {STATE} speaks of")
        return None
    tensors = read_tensors(folder, TENSORS, header.specs, problems)
    return None if problems else Checkpoint(int(state["step"]), state, tensors)


def clear(run: Path) -> None:
    """Remove what an interrupted write left behind."""
    for left in run.glob(".addenda-*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
