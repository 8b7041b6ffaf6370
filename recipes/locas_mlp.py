"""Study: memories written in closed form beside plain FFNs, by how their slots are compressed.

    python -m recipes.plain_tiny            # first: the base with plain FFNs
    python -m recipes.locas_mlp             # every run that has no record yet, then the tables
    python -m recipes.locas_mlp --report    # the tables of the records there are

Stretches of books are read as in `recipes.locas`, from windows of 512 tokens in chunks of 256. First a sweep on one book over
the multiplier of tau, for each compression and width, for the same memory written by gradient steps, and for TempLoRA; then
each at its best on all books and seeds. Gain and forgetting are those of `recipes.locas`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from addenda.kinds.locas_mlp import Compression
from recipes.locas import read
from recipes.memory_frontier import settings_table
from recipes.memory_plan import BOOKS, Run
from recipes.records import Records, grouped, in_part, recorded
from recipes.study import conduct, parser_of
from recipes.tables import joined, table, with_t_interval

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
    swept = grouped(in_part(records, "sweep"), lambda run: run["method"])
    best = {method: max(mine, key=lambda record: record["gain"]) for method, mine in swept.items()}
    return [
        Run("study", method, book, *(best[method]["run"][key] for key in ("kind", "options", "settings")), tokens, seed)
        for seed, book in product(seeds, books)
        for method in best
    ]


def execute(run: Run, records: Path, base: str) -> str:
    """Read the book and write the record."""
    return recorded(run, records, read(run, base))


def report(records: Records, folder: Path) -> str:
    """The tables as Markdown: each method at its best, gains over those of the published compression, and the sweep."""
    hidden = ("rank", "compress", "write")
    parts = [
        settings_table(records, "study", hidden), _against_published(records), settings_table(records, "sweep", hidden),
    ]  # fmt: skip
    return joined(parts)


def _against_published(records: Records) -> list[str]:
    """What each compression gains over the published one of its width, case by case."""
    by_case = grouped(in_part(records, "study"), lambda run: (run["book"], run["seed"]))
    cases = [{record["run"]["method"]: record["gain"] for record in mine} for mine in by_case.values()]
    rows = []
    for how, rank in product([way for way in get_args(Compression) if way != PUBLISHED], RANKS):
        ours, theirs = f"{how}, rank {rank}", f"{PUBLISHED}, rank {rank}"
        gains = [case[ours] - case[theirs] for case in cases if ours in case and theirs in case]
        if gains:
            rows.append((ours, with_t_interval(gains, 3, -math.inf), len(gains)))
    return table("compression | gain less that of the published one, nats [95% interval] | cases", rows)


def main(words: Sequence[str] | None = None) -> None:
    """Run what is not done yet, then report."""
    parser = parser_of(__doc__, workers=2, tokens=20_000)
    parser.add_argument("--base", type=Path, default=Path("runs/plain_tiny"), help="made by recipes.plain_tiny")
    parser.add_argument("--books", nargs="+", default=list(BOOKS[:2]))
    given = parser.parse_args(words)
    if not (given.report or given.dry_run or given.base.is_dir()):
        parser.error(f"no base in '{given.base}'; `python -m recipes.plain_tiny --out {given.base}` makes it")
    stages = (
        lambda given, _: sweep(given.tokens), lambda given, records: study(records, given.tokens, given.seeds, given.books),
    )  # fmt: skip
    conduct("locas_mlp", given, stages, partial(execute, base=str(given.base.absolute())), report)


if __name__ == "__main__":
    main()
