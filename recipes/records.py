"""Records of a study: one JSON file for each cell, named by the hash of its options; a cell that has one is done."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

import addenda
from addenda.comparing.work import mark
from addenda.core.errors import AddendaError
from addenda.core.files import kept_json, replace_text
from recipes.common import keep_pages, place, precision

Records = list[dict[str, Any]]
#: metadata of a field that came later: it is part of a run's name only where it is given, so that older records keep theirs
LATER = {"later": True}


def name_of(run: Any, *front: str | int) -> str:
    """A short name of a run, a dataclass, that changes with every option."""
    facts = asdict(run)
    for each in fields(run):
        if each.metadata == LATER and facts[each.name] == each.default:
            del facts[each.name]
    return "-".join(map(str, (*front, mark(facts)[:8])))


class Named:
    """A cell of a study, a frozen dataclass: its name begins with words or what some fields say, and changes with every field."""

    FRONT: ClassVar[tuple[str, ...]]

    @property
    def id(self) -> str:
        """The name of its record."""
        return name_of(self, *(getattr(self, name, name) for name in self.FRONT))


def stamp(cell: Any, base: addenda.Base | None = None) -> dict[str, Any]:
    """What every record says: the cell, and what it was computed on, and the base as it is now: ask before its weights train."""
    known = {} if base is None else {"base": base.fingerprint}
    return {"run": asdict(cell), "device": device(), "torch": torch.__version__} | known


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record, whole or not at all."""
    replace_text(path, json.dumps(record, indent=1, default=float) + "\n")


def recorded(cell: Any, folder: Path, record: dict[str, Any]) -> str:
    """Write the record of a cell; its name."""
    write_record(folder / f"{cell.id}.json", record)
    return cell.id


def read_records(folder: Path) -> Records:
    """Every record of a folder, by name."""
    return [kept_json(path) for path in sorted(folder.glob("*.json"))]


def in_part(records: Records, *parts: str) -> Records:
    """The records of some parts of a study."""
    return [record for record in records if record["run"]["part"] in parts]


def grouped(records: Records, key: Callable[[dict[str, Any]], Any]) -> dict[Any, Records]:
    """Records by a key of their run, in the order in which keys first come."""
    groups: dict[Any, Records] = defaultdict(list)
    for record in records:
        groups[key(record["run"])].append(record)
    return dict(groups)


def pending(cells: Iterable[Any], folder: Path) -> list[tuple[Any, Path]]:
    """The cells that have no record in a folder, each with the folder."""
    return [(cell, folder) for cell in cells if not (folder / f"{cell.id}.json").exists()]


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
        waiting: dict[Future[str], Any] = {pool.submit(work, *task): task[0] for task in tasks}
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
