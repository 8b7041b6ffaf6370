"""Study: what a memory keeps of a book it has read once, against what it forgets; Locas, quiet Locas and TempLoRA.

    python -m recipes.locas                 # every run that has no record yet, then tables and plots
    python -m recipes.locas --report        # tables and plots of the records there are
    python -m recipes.locas --dry-run       # what is done and what is to do

The base is `tiny`; the books are long novels that it was never trained on. Each run reads the first tokens of a book once,
from windows of 512 tokens, in chunks of 256; the truncated window without a memory is scored in the same run. First a
sweep on one book: every method over its learning rates and knobs. Then, on all books and seeds, each method's settings
that no other of its own betters. Numbers are nats per token: gain = taken off over the last quarter of what was read,
forgetting = added on held-out general text afterwards.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.core.registry import build_kind
from recipes.common import precision, study_texts
from recipes.records import device, in_processes, name_of, pending, read_records, write_record

BOOKS = ("Dickens_Bleak", "Eliot_Daniel", "Gaskell_Wives", "Blackmore_Lorna", "Trollope_Phineas")
WINDOW, CHUNK = 512, 256
#: tokens of held-out general text that forgetting is measured on
GENERAL = 30_000
#: settings of each method that go on from the sweep to all books and seeds
KEPT = 4


@dataclass(frozen=True)
class Run:
    """One reading of a book; `method` is the curve it belongs to."""

    part: str
    method: str
    book: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    tokens: int = 60_000
    seed: int = 0

    @property
    def id(self) -> str:
        """A short name that changes with every option."""
        return name_of(self, self.part, self.method, self.book.split("_")[0].lower(), self.seed)


Grid = Iterable[tuple[dict[str, Any], dict[str, Any]]]


def grids() -> dict[str, tuple[str, Grid]]:
    """Kind, options and settings of every point of each method's sweep."""
    rates = (1e-3, 4e-3, 1.6e-2)
    quiet = product((16.0, 32.0), (4e-3, 1.6e-2), (0.1, 0.3, 1.0))
    return {
        "locas": ("LocasGLU", [({"rank": 32, "scale": s}, {"lr": lr}) for s, lr in product((1.0, 4.0, 16.0), rates)]),
        "locas-quiet": (
            "LocasGLU",
            [({"rank": 32, "scale": s}, {"lr": lr, "local": local, "replay": True}) for s, lr, local in quiet],
        ),
        "gated": (
            "NeutralResidues",
            [({"width": 32, "gate": "context"}, {"lr": lr, "local": 0.0, "replay": True}) for lr in rates],
        ),
        "templora": ("LoRA", [({"rank": r}, {"lr": lr}) for r, lr in product((4, 16), (3e-4, 1e-3, 3e-3))]),
    }


def sweep(tokens: int) -> list[Run]:
    """Every method's grid on the first book."""
    return [
        Run("sweep", method, BOOKS[0], kind, options, settings, tokens)
        for method, (kind, grid) in grids().items()
        for options, settings in grid
    ]


def best(records: list[dict[str, Any]], method: str) -> list[dict[str, Any]]:
    """The runs of a method's sweep that none other of its own betters, at most `KEPT`, evenly spread by gain."""
    mine = [r for r in records if r["run"]["part"] == "sweep" and r["run"]["method"] == method]
    front = [
        one
        for one in mine
        if one["gain"] > 0
        and not any(o["gain"] >= one["gain"] and o["forgetting"] < one["forgetting"] for o in mine if o is not one)
    ]
    front.sort(key=lambda one: one["gain"])
    places = sorted({round(n * (len(front) - 1) / max(1, KEPT - 1)) for n in range(KEPT)}) if front else []
    return [front[place]["run"] for place in places]


def study(records: list[dict[str, Any]], tokens: int, seeds: list[int], books: Iterable[str]) -> list[Run]:
    """The best settings of each method on every book, seed after seed."""
    return [
        Run("study", method, book, run["kind"], run["options"], run["settings"], tokens, seed)
        for seed, book in product(seeds, books)
        for method in grids()
        for run in best(records, method)
    ]


@cache
def text_of(book: str) -> str:
    """A whole book from `ADDENDA_DATA`.

    Raises:
        AddendaError: it is not there.
    """
    data = Path(os.environ.get("ADDENDA_DATA", "../shared/data")) / "long_books"
    found = sorted(data.glob(f"{book}*.txt.gz"))
    if not found:
        raise addenda.AddendaError(f"no book '{book}' in {data}; ADDENDA_DATA names the folder of the data")
    with gzip.open(found[0], "rt", encoding="utf-8") as lines:
        return lines.read()


def first_tokens(base: addenda.Base, book: str, tokens: int) -> str:
    """The beginning of a book, about so many tokens of it."""
    ids = base.tokenizer(text_of(book)[: tokens * 8], verbose=False, add_special_tokens=False)["input_ids"]
    return base.tokenizer.decode(ids[:tokens])


def memorized(base: addenda.Base, text: str, run: Any) -> addenda.MemorizeReport:
    """Read a text into the module `m`, with the kind, options, settings and seed of a run."""
    settings = dict(run.settings)
    if settings.pop("replay", False):
        settings["replay"] = study_texts().replay
    return addenda.memorize(
        base, "m", text=text, kind=build_kind(run.kind, run.options), seed=run.seed,
        window=WINDOW, chunk=CHUNK, precision=precision(), log=False, **settings,
    )  # fmt: skip


def execute(run: Run, records: Path) -> str:
    """Read the book and write the record."""
    base, held = addenda.load_base("tiny", dtype=torch.float32), study_texts()
    text = first_tokens(base, run.book, run.tokens)
    report = memorized(base, text, run)
    options: dict[str, Any] = {"tokens": GENERAL, "precision": precision()}
    bare = addenda.perplexity(base, held.general_valid, **options)
    with base.using("m"):
        lost = addenda.perplexity(base, held.general_valid, **options).minus(bare)
    online = report.texts["m"]
    write_record(
        records / f"{run.id}.json",
        {
            "run": asdict(run),
            "gain": online.gain(0.75),
            "gain_whole": online.gain(),
            "forgetting": lost.nats,
            "forgetting_interval": [lost.low, lost.high],
            "tokens": online.tokens,
            "parameters": report.parameters["m"],
            "time": report.seconds / report.bare_seconds,
            "curve": online.curve.points(True),
            "base": base.fingerprint,
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "torch": torch.__version__,
            "device": device(),
        },
    )
    return run.id


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=60_000, help="tokens read of each book")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--books", nargs="+", default=list(BOOKS))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="records, tables and plots")
    parser.add_argument("--report", action="store_true", help="read nothing")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and what is done")
    given = parser.parse_args()
    records = given.docs / "locas"
    records.mkdir(parents=True, exist_ok=True)

    first = sweep(given.tokens)
    if not (given.report or given.dry_run):
        in_processes(execute, pending(first, records), given.workers)
    runs = study(read_records(records), given.tokens, given.seeds, given.books)
    if given.dry_run:
        for run in first + runs:
            print("done " if (records / f"{run.id}.json").exists() else "to do", run)
        return
    if not given.report:
        in_processes(execute, pending(runs, records), given.workers)
    from recipes.memory_frontier import report

    print(report(read_records(records), given.docs))


if __name__ == "__main__":
    main()
