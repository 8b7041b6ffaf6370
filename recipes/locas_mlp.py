"""Study: memories written in closed form beside plain FFNs, by how their slots are compressed.

    python -m recipes.plain_tiny            # first: the base with plain FFNs
    python -m recipes.locas_mlp             # every run that has no record yet, then the tables
    python -m recipes.locas_mlp --report    # the tables of the records there are

Stretches of books are read as in `recipes.locas`, from windows of 512 tokens in chunks of 256. First a sweep on one book over
the multiplier of tau, for each compression and width, for the same memory written by gradient steps, and for TempLoRA; then
each at its best on all books and seeds. Gain and forgetting are those of `recipes.locas`.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from addenda.kinds.locas_mlp import Compression
from recipes.frontier import with_t_interval
from recipes.locas import read
from recipes.memory_frontier import settings_table
from recipes.memory_plan import BOOKS, Records, Run
from recipes.records import in_processes, pending, read_records, write_record
from recipes.tables import write_tables

SCALES, RANKS, RATES = (1.0, 4.0, 16.0, 64.0), (64, 256), (3e-4, 1e-3, 3e-3)
PUBLISHED = "published"


def sweep(tokens: int) -> Iterator[Run]:
    """Every method's settings on the first book."""

    def run(method: str, kind: str, options: dict[str, Any], settings: dict[str, Any]) -> Run:
        return Run("sweep", method, BOOKS[0], kind, options, settings, tokens)

    for how, rank, scale in product(get_args(Compression), RANKS, SCALES):
        yield run(f"{how}, rank {rank}", "LocasMLP", {"rank": rank, "scale": scale, "eps": 0.3, "compress": how}, {})
    for scale in SCALES:
        yield run("gradient steps, rank 64", "LocasMLP", {"rank": 64, "scale": scale}, {"write": "gradient"})
    for rate in RATES:
        yield run("templora, rank 4", "LoRA", {"rank": 4}, {"lr": rate})


def study(records: Records, tokens: int, seeds: Iterable[int], books: Iterable[str]) -> list[Run]:
    """Each method at the setting that gained most in the sweep, on every book and seed."""
    best: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["run"]["part"] == "sweep":
            best[record["run"]["method"]] = max(
                record, best.get(record["run"]["method"], record), key=lambda r: r["gain"]
            )
    return [
        Run(
            "study",
            method,
            book,
            record["run"]["kind"],
            record["run"]["options"],
            record["run"]["settings"],
            tokens,
            seed,
        )
        for seed, book in product(seeds, books)
        for method, record in best.items()
    ]


def execute(run: Run, records: Path, base: str) -> str:
    """Read the book and write the record."""
    write_record(records / f"{run.id}.json", read(run, base))
    return run.id


def report(records: Records) -> str:
    """The tables as Markdown: each method at its best, gains over those of the published compression, and the sweep."""
    hidden = ("rank", "compress", "write")
    parts = [
        settings_table(records, "study", hidden), _against_published(records), settings_table(records, "sweep", hidden),
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _against_published(records: Records) -> list[str]:
    """What each compression gains over the published one of its width, case by case."""
    cases: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for record in records:
        if record["run"]["part"] == "study":
            cases[record["run"]["book"], record["run"]["seed"]][record["run"]["method"]] = record["gain"]
    lines = [
        "| compression | gain less that of the published one, nats [95% interval] | cases |",
        "| --- | --- | --- |",
    ]
    for how, rank in product([way for way in get_args(Compression) if way != PUBLISHED], RANKS):
        ours, theirs = f"{how}, rank {rank}", f"{PUBLISHED}, rank {rank}"
        gains = [case[ours] - case[theirs] for case in cases.values() if ours in case and theirs in case]
        if gains:
            lines.append(f"| {ours} | {with_t_interval(gains, 3, -math.inf)} | {len(gains)} |")
    return lines if len(lines) > 2 else []


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("runs/plain_tiny"), help="made by recipes.plain_tiny")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens read of each book")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--books", nargs="+", default=list(BOOKS[:2]))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="records and tables")
    parser.add_argument("--report", action="store_true", help="read nothing")
    given = parser.parse_args()
    records = given.docs / "locas_mlp"
    records.mkdir(parents=True, exist_ok=True)
    if not given.report:
        if not given.base.is_dir():
            parser.error(f"no base in '{given.base}'; `python -m recipes.plain_tiny --out {given.base}` makes it")
        work = partial(execute, base=str(given.base.absolute()))
        in_processes(work, pending(sweep(given.tokens), records), given.workers)
        in_processes(
            work, pending(study(read_records(records), given.tokens, given.seeds, given.books), records), given.workers
        )
    text = report(read_records(records))
    write_tables(given.docs / "locas_mlp.md", text)
    print(text)


if __name__ == "__main__":
    main()
