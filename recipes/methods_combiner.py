"""Combiners: what two modules, on French and on PubMed, give when they are made one, by method, at equal size.

    python -m recipes.methods_combiner --dry-run     # the cells that have no record yet
    python -m recipes.methods_combiner               # makes them, then tells the table
    python -m recipes.methods_combiner --report      # the table of the records there are

On `tiny`, two modules of one kind, each trained on one subject with general replay; then one module by each method. Gain is
what is taken off the bare base's loss on the subject's held-out text, forgetting what is added on held-out Wikipedia.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import addenda
from recipes.common import gained, load, losses, taught
from recipes.gates import general
from recipes.records import Named, Records, recorded, stamp
from recipes.studies.subjects import subject
from recipes.study import conduct, parser_of

SUBJECTS = ("pubmed", "french")
#: kinds with as many trained parameters
KINDS: dict[str, Any] = {"lora": addenda.LoRA(rank=8), "ffa": addenda.FFALoRA(rank=16)}
#: each half of both, both whole, and the methods that keep apart what contradicts itself
WAYS = (
    "mean", "mean(normalise=False)", "ties(density=0.2)", "ties(density=0.53)", "ota(density=0.4)", "ota(density=1.0)",
)  # fmt: skip
SCORED: dict[str, Any] = {"tokens": 4_000, "length": 256}


@dataclass(frozen=True)
class Cell(Named):
    """Two modules of one kind and seed, and all that is made of them."""

    FRONT = ("kind", "seed")
    kind: str
    seed: int
    tokens: int


def make(cell: Cell, folder: Path) -> str:
    """Train both, combine them in every way, write the record."""
    base = load("tiny")
    for name in SUBJECTS:
        taught(base, name, KINDS[cell.kind], subject(name).corpus, seed=cell.seed, tokens=cell.tokens)
    held = {**{name: subject(name).held for name in SUBJECTS}, "wikipedia": general("wikipedia")}
    bare, gains, lost = losses(base, held, **SCORED), dict[str, Any](), dict[str, float]()
    for number, way in enumerate([*SUBJECTS, *WAYS]):
        name = way
        if way in WAYS:
            name = f"made-{number}"
            made = addenda.combine(base, SUBJECTS, way, name=name)
            lost[way] = made.card.combined.lost if made.card.combined else 0.0
        gains[way] = gained(bare, losses(base, held, name, **SCORED))
    return recorded(cell, folder, stamp(cell) | {"gains": gains, "lost": lost})


def report(records: Records, folder: Path) -> str:
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


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every kind, seed after seed."""
    for seed in given.seeds:
        yield from (Cell(kind, seed, given.tokens) for kind in given.kinds)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then tell the table."""
    parser = parser_of(__doc__, seeds=(0, 1), tokens=16_384)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    conduct("methods/combiner", parser.parse_args(words), [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
