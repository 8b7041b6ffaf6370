"""Make the runs that have no record yet, study after study, then the pages."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import recipes.studies
from addenda.core.errors import AddendaError
from recipes.common import place
from recipes.records import in_processes, pending, read_records
from recipes.studies.composition import work
from recipes.studies.plan import QUICK, SWEEP, Records, Scale
from recipes.studies.run import Run
from recipes.studies.subjects import lacking
from recipes.study import parser_of
from recipes.tables import write_tables

STUDIES = ("neutral_residues", "registers", "recall", "composition")


def records_of(folder: Path, scale: Scale) -> Records:
    """The records of all studies, of runs scored on as much text as this scale scores: a quick one may lie beside a full one."""
    records = [record for name in STUDIES if (folder / name).is_dir() for record in read_records(folder / name)]
    return [record for record in records if record["run"]["held"] == scale.held]


def sweeps(studies: dict[str, Any], name: str, scale: Scale) -> Iterator[Run]:
    """The sweep of a study, and of those it takes rates from, as composition does."""
    for study in dict.fromkeys([name, *(other.STUDY for other in getattr(studies[name], "FROM", {}).values())]):
        yield from studies[study].sweep(scale)


def arguments() -> argparse.Namespace:
    """What was given on the command line."""
    parser = parser_of(recipes.studies.__doc__, workers=2)
    parser.add_argument("--only", nargs="+", default=list(STUDIES), choices=STUDIES, help="only these studies")
    parser.add_argument("--parts", nargs="+", help="only these parts, as records name them, and the sweep")
    parser.add_argument("--quick", action="store_true", help="a small version of each, in minutes, into runs/quick")
    parser.add_argument("--share", type=float, help="of the full number of tokens; default: 0.1 on a CPU, 1 on a GPU")
    parser.set_defaults(docs=None)
    return parser.parse_args()


def main() -> None:
    """Run what is not done yet, then report."""
    given = arguments()
    full = Scale(1.0, held=30_000) if place().type == "cuda" else Scale()
    scale = QUICK if given.quick else replace(full, seeds=tuple(given.seeds))
    if given.share is not None:
        scale = replace(scale, share=given.share)
    folder = given.docs = given.docs or Path("runs/quick" if given.quick else "docs/results")
    studies: dict[str, Any] = {name: importlib.import_module(f"recipes.studies.{name}") for name in STUDIES}
    seen: set[str] = set()
    failures: list[str] = []

    def make(runs: Iterable[Run]) -> None:
        new = [run for run in runs if run.id not in seen and (given.parts is None or run.part in (SWEEP, *given.parts))]
        seen.update(run.id for run in new)
        left = [task for run in new for task in pending([run], folder / run.study)]
        if given.dry_run:
            missing = {run.id for run, _ in left}
            for run in new:
                print("to do" if run.id in missing else "done ", run)
            return
        for study in {run.study for run, _ in left}:
            (folder / study).mkdir(parents=True, exist_ok=True)
        lacks = {run.id: file for run, _ in left for name in run.subjects if (file := lacking(name))}
        for file in sorted(set(lacks.values())):
            count = sum(missing == file for missing in lacks.values())
            print(f"{count} runs left out: no '{file}' in the folder that ADDENDA_DATA names", flush=True)
        try:
            in_processes(work, [task for task in left if task[0].id not in lacks], given.workers)
        except AddendaError as error:  # told again at the end: other studies and the pages do not hang on these
            failures.append(str(error))

    # each study after its sweep; a whole study with one seed before any has two
    for seed, name in product(scale.seeds, given.only) if not given.report else ():
        make(sweeps(studies, name, scale))
        make(studies[name].then(records_of(folder, scale), replace(scale, seeds=(seed,))))
    if given.dry_run:
        return
    records = records_of(folder, scale)
    for name in given.only:
        text = studies[name].report(records, folder)
        if text:
            write_tables(folder / f"{name}.md", text)
            print(text)
    if failures:
        raise AddendaError("; ".join(failures))


if __name__ == "__main__":
    main()
