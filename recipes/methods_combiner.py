"""Combiners: what two modules, on French and on PubMed, give when they are made one, by method, at equal size.

    python -m recipes.methods_combiner --dry-run     # the cells that have no record yet
    python -m recipes.methods_combiner               # makes them, then tells the table
    python -m recipes.methods_combiner --report      # the table of the records there are

On `tiny`, two modules of one kind, each trained on one subject with general replay; then one module by each method. Gain is
what is taken off the bare base's loss on the subject's held-out text, forgetting what is added on held-out Wikipedia.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import addenda
from addenda.plug.scoring import score
from recipes.common import load, precision
from recipes.gates import general
from recipes.records import device, in_processes, name_of, pending, read_records, write_record
from recipes.studies.subjects import subject

FOLDER = Path("docs/results/methods/combiner")
SUBJECTS = ("pubmed", "french")
#: kinds with as many trained parameters
KINDS: dict[str, Any] = {"lora": addenda.LoRA(rank=8), "ffa": addenda.FFALoRA(rank=16)}
#: each half of both, both whole, and the methods that keep apart what contradicts itself
WAYS = (
    "mean", "mean(normalise=False)", "ties(density=0.2)", "ties(density=0.53)", "ota(density=0.4)", "ota(density=1.0)",
)  # fmt: skip
LENGTH, ROWS, HELD = 256, 8, 4_000


@dataclass(frozen=True)
class Cell:
    """Two modules of one kind and seed, and all that is made of them."""

    kind: str
    seed: int
    tokens: int

    @property
    def id(self) -> str:
        """Its name, which changes with its options."""
        return name_of(self, self.kind, self.seed)


def make(cell: Cell, folder: Path) -> str:
    """Train both, combine them in every way, write the record."""
    base = load("tiny")
    for name in SUBJECTS:
        base.new(name, KINDS[cell.kind], seed=cell.seed)
        addenda.train(
            base, name, corpus=list(subject(name).corpus), replay="general_train", tokens=cell.tokens, seed=cell.seed,
            length=LENGTH, batch_rows=ROWS, precision=precision(), log=False,
        )  # fmt: skip
    held = {**{name: list(subject(name).held) for name in SUBJECTS}, "wikipedia": general("wikipedia")}
    bare = {on: score(base, texts, tokens=HELD, length=LENGTH) for on, texts in held.items()}
    record: dict[str, Any] = {
        "run": asdict(cell),
        "device": device(),
        "torch": torch.__version__,
        "gains": {},
        "lost": {},
    }
    for number, way in enumerate([*SUBJECTS, *WAYS]):
        name = way
        if way in WAYS:
            name = f"made-{number}"
            made = addenda.combine(base, SUBJECTS, way, name=name)
            record["lost"][way] = made.card.combined.lost if made.card.combined else 0.0
        with base.using(name):
            now = {on: score(base, texts, tokens=HELD, length=LENGTH) for on, texts in held.items()}
        changes = {on: bare[on].minus(now[on]) for on in held}
        record["gains"][way] = {on: [change.nats, change.low, change.high] for on, change in changes.items()}
    write_record(folder / f"{cell.id}.json", record)
    return cell.id


def report(records: Sequence[dict[str, Any]]) -> str:
    """Means over seeds, with their range: one row a way."""
    lines: list[str] = []
    for kind, tokens in sorted({(r["run"]["kind"], r["run"]["tokens"]) for r in records}):
        mine = [r for r in records if (r["run"]["kind"], r["run"]["tokens"]) == (kind, tokens)]
        lines += [f"{KINDS[kind]}, {tokens:,} tokens each, {len(mine)} seeds; nats per token taken off"]
        lines += [f"{'':24}{'pubmed':>26}{'french':>26}{'wikipedia':>26}{'lost':>8}"]
        for way in mine[0]["gains"]:
            cells = ""
            for on in (*SUBJECTS, "wikipedia"):
                values = [r["gains"][way][on][0] for r in mine]
                cells += f"{f'{mean(values):+.4f} ({min(values):+.4f} {max(values):+.4f})':>26}"
            lost = mean(r["lost"].get(way, 0.0) for r in mine)
            lines.append(f"{way:24}{cells}{lost:>8.1%}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then tell the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true", help="list the cells that have no record yet")
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args(words)
    FOLDER.mkdir(parents=True, exist_ok=True)
    left = pending([Cell(kind, seed, given.tokens) for seed in given.seeds for kind in given.kinds], FOLDER)
    print("\n".join(cell.id for cell, _ in left) or "every cell has a record")
    if given.dry_run:
        return
    if not given.report:
        in_processes(make, left, given.workers)
    print(report(read_records(FOLDER)))


if __name__ == "__main__":
    main()
