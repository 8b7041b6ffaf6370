"""Records of a study: one JSON file for each run, named by the hash of its configuration; a run that has one is done."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from addenda.core.errors import AddendaError
from recipes.common import keep_pages, place, precision

#: metadata of a field that came later: it is part of a run's name only where it is given, so that older records keep theirs
LATER = {"later": True}


def name_of(run: Any, *front: str | int) -> str:
    """A short name of a run, a dataclass, that changes with every option."""
    facts = asdict(run)
    for each in fields(run):
        if each.metadata == LATER and facts[each.name] == each.default:
            del facts[each.name]
    text = json.dumps(facts, sort_keys=True)
    return "-".join(map(str, (*front, hashlib.sha256(text.encode()).hexdigest()[:8])))


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1, default=float) + "\n")
    temporary.replace(path)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Every record of a folder, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def pending(runs: Iterable[Any], folder: Path) -> list[tuple[Any, Path]]:
    """The runs that have no record in a folder, each with the folder."""
    return [(run, folder) for run in runs if not (folder / f"{run.id}.json").exists()]


def device() -> str:
    """What a run was computed on."""
    if place().type == "cuda":
        return f"{torch.cuda.get_device_name(0)}, {precision()}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), {precision()}"


def in_processes(work: Callable[..., str], tasks: Sequence[tuple[Any, ...]], workers: int) -> None:
    """Call `work(*task)` for every task, `workers` at a time, each in a process with its share of the cores (or OMP_NUM_THREADS).

    Raises:
        AddendaError: some failed, once all others are made; each is told.
    """
    if not tasks:
        return
    failed = 0
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or max(1, multiprocessing.cpu_count() // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (threads,)) as pool:
        waiting = {pool.submit(work, *task): task[0] for task in tasks}
        for number, done in enumerate(as_completed(waiting), 1):
            error = done.exception()
            failed += error is not None
            told = done.result() if error is None else f"failed, {type(error).__name__}: {error} ({waiting[done]})"
            print(f"{number} of {len(tasks)}: {told}", flush=True)
    if failed:
        raise AddendaError(f"{failed} of {len(tasks)} runs failed; the same command makes those again")


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_pages()
