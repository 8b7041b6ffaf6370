"""A study's command: cells that have no record yet are made, stage after stage, then its page's tables from all records."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from recipes.records import Records, in_processes, pending, read_records
from recipes.tables import write_tables

#: cells, from what was given and the records there are; `id` names one, `minutes` says what it takes, where that is known
Stage = Callable[[argparse.Namespace, Records], Iterable[Any]]


def parser_of(doc: str | None, *, seeds: Sequence[int] = (0, 1, 2), workers: int = 1, **tokens: int) -> Any:
    """A parser with the options that all studies have; a number under a name is an option of tokens, `first_tokens=100`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in tokens.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=count, help="of each cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--workers", type=int, default=workers, help="cells at a time")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="records, tables and plots")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and what is done")
    parser.add_argument(
        "--report", action="store_true", help="train nothing: tables and plots of the records there are"
    )
    return parser


def conduct(
    name: str,
    given: argparse.Namespace,
    stages: Sequence[Stage],
    make: Callable[[Any, Path], str],
    report: Callable[[Records, Path], str],
    *,
    paged: bool = True,
) -> None:
    """Make what is not made yet, and tell what was found.

    Args:
        name: of the folder of records in `given.docs`, and of the page beside it.
        given: from the command line.
        stages: one after another, so that a later one sees what an earlier one left.
        make: makes a cell and writes its record into a folder; called in other processes.
        report: the tables as Markdown, of all records; plots go into the folder of the page.
        paged: whether the tables go into the page; they are printed in any case.

    Raises:
        AddendaError: some cells failed, once all others are made; the page is then left as it was.
    """
    folder = given.docs / name
    if not (given.report or given.dry_run):
        folder.mkdir(parents=True, exist_ok=True)
    for stage in stages if not given.report else ():
        cells = list(stage(given, read_records(folder)))
        left = pending(cells, folder)
        for cell in cells if given.dry_run else ():
            print("to do" if (cell, folder) in left else "done ", cell.id)
        told = (
            f", about {sum(cell.minutes for cell, _ in left):.0f} minutes"
            if cells and hasattr(cells[0], "minutes")
            else ""
        )
        print(f"{len(left)} of {len(cells)} cells have no record{told}", flush=True)
        if not given.dry_run:
            in_processes(make, left, given.workers)
    text = "" if given.dry_run else report(read_records(folder), given.docs)
    if text:
        if paged:
            write_tables(given.docs / f"{name}.md", text)
        print(text)
