"""Make the runs that have no record yet, study after study, then the pages."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import recipes.studies
from recipes.records import in_processes, read_records
from recipes.studies.plan import QUICK, Records, Scale
from recipes.studies.run import Run
from recipes.studies.work import work

STUDIES = ("neutral_residues", "registers", "recall", "composition")


def todo(runs: list[Run], folder: Path) -> list[tuple[Run, Path]]:
    """The runs that have no record."""
    return [(run, folder) for run in runs if not (folder / run.study / f"{run.id}.json").exists()]


def records_of(folder: Path) -> Records:
    """The records of all studies."""
    return [one for name in STUDIES if (folder / name).is_dir() for one in read_records(folder / name)]


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(
        description=recipes.studies.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(STUDIES), choices=STUDIES, help="only these studies")
    parser.add_argument("--quick", action="store_true", help="a small version of each, in minutes")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument(
        "--docs", type=Path, help="records, tables and plots; default docs/results, of --quick runs/quick"
    )
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and what is done")
    given = parser.parse_args()
    scale = QUICK if given.quick else Scale()
    folder = given.docs or Path("runs/quick" if given.quick else "docs/results")
    studies: dict[str, Any] = {name: importlib.import_module(f"recipes.studies.{name}") for name in given.only}
    for name in STUDIES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    # composition takes its rates from the sweeps of the others
    swept = (
        studies
        if "composition" not in studies
        else {name: importlib.import_module(f"recipes.studies.{name}") for name in STUDIES}
    )
    first = [run for study in swept.values() for run in study.sweep(scale)]
    if not (given.report or given.dry_run):
        in_processes(work, todo(first, folder), given.workers)
    records = records_of(folder)
    after = [run for study in studies.values() for run in study.then(records, scale)]
    after.sort(key=lambda run: run.seed)  # a whole study with one seed before any has two
    if given.dry_run:
        missing = {run.id for run, _ in todo(first + after, folder)}
        for run in first + after:
            print("to do" if run.id in missing else "done ", run)
        return
    if not given.report:
        in_processes(work, todo(after, folder), given.workers)
        records = records_of(folder)
    for name, study in studies.items():
        text = study.report(records, folder)
        if text:
            (folder / f"{name}.md").write_text(text)
            print(text)


if __name__ == "__main__":
    main()
