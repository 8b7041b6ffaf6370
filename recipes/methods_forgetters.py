"""Forgetters: what each takes out of a module that learned some documents, and what it costs those that are to stay.

    python -m recipes.methods_forgetters --dry-run     # the cells that have no record yet
    python -m recipes.methods_forgetters               # makes them, then prints the table
    python -m recipes.methods_forgetters --report      # the table of the records there are

On `tiny`, a LoRA that has read short documents of a subject many times. Eight of them are to go; sixteen stand for what is to
stay; eight more were learned too and are shown to no forgetter: they are what is reported. Every way reads as many tokens, at
one rate: `--rates` sweeps it, for seeds that are not reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import addenda
from addenda.plug.base import Base
from recipes.common import load, taught
from recipes.records import Named, Records, recorded, stamp
from recipes.studies.subjects import subject
from recipes.study import conduct, parser_of
from recipes.tables import table

WAYS = ("graddiff", "gu", "gu(repair=1.0)", "gs_lora(alpha=10.0)")
RATES = (3e-4,)
GONE, KEPT, OTHERS, SIZE = 8, 16, 8, 600
LEARNED, FORGETTING, LENGTH, ROWS = 48_000, 16_384, 128, 4
#: tokens of each text that are measured
MEASURED = 1_000


@dataclass(frozen=True)
class Cell(Named):
    """A module of a seed, and all ways to take a text out of it."""

    FRONT = ("forgetters", "subject", "seed")
    subject: str
    seed: int
    rates: tuple[float, ...]


def documents(name: str, seed: int) -> list[list[str]]:
    """What is to go, what stands for what is to stay, and what is reported of it: documents of a seed's own."""
    texts = [text[:SIZE] for text in subject(name).corpus if len(text) >= SIZE]
    count = GONE + KEPT + OTHERS
    chosen = texts[seed * count : (seed + 1) * count]
    return [chosen[:GONE], chosen[GONE : GONE + KEPT], chosen[GONE + KEPT :]]


def learned(texts: list[str], seed: int) -> Base:
    """The base with a module that has read these texts."""
    base = load("tiny")
    more: dict[str, Any] = {"length": LENGTH, "batch_rows": ROWS, "precision": "fp32"}
    taught(base, "m", addenda.LoRA(rank=16), texts, seed=seed, tokens=LEARNED, lr=2e-3, replay=None, **more)
    return base


def make(cell: Cell, folder: Path) -> str:
    """Learn, forget in every way from the same start, measure, write the record."""
    gone, kept, others = documents(cell.subject, cell.seed)
    record: dict[str, Any] = stamp(cell) | {"ways": {}}
    base = learned(gone + kept + others, cell.seed)
    start = {name: tensor.clone() for name, tensor in base.modules["m"].tensors().items()}
    with base.using("m"):
        before = addenda.perplexity(base, others, length=LENGTH)
    for way in WAYS:
        for rate in cell.rates:
            base.modules["m"].load_tensors(start)
            report = addenda.forget(
                base, "m", forget=gone, retain=kept, method=way, tokens=FORGETTING, lr=rate, seed=cell.seed, length=LENGTH,
                batch_rows=ROWS, measured=MEASURED, log=False,
            )  # fmt: skip
            with base.using("m"):
                change = addenda.perplexity(base, others, length=LENGTH).minus(before)
            found = {"others": [change.nats, change.low, change.high], "seconds": report.seconds}
            record["ways"][f"{way} at {rate:g}"] = found | {
                k: report.as_dict()[k] for k in ("forget", "retain", "groups")
            }
    return recorded(cell, folder, record)


def report(seeds: Sequence[int], records: Records, folder: Path) -> str:
    """Means over records: what was known of what is to go, what is left, and what it cost what is to stay."""
    mine, rows = [record["ways"] for record in records if record["run"]["seed"] in seeds], []
    for way in sorted({way for ways in mine for way in ways}):
        of = [ways[way] for ways in mine if way in ways]
        loss = [mean(each["forget"]["loss"][state]["value"] for each in of) for state in ("bare", "before", "after")]
        recall = mean(each["forget"]["recall"]["after"]["value"] for each in of)
        others = [each["others"][0] for each in of]
        spread = f"{mean(others):+.3f} ({min(others):+.3f} to {max(others):+.3f})"
        told = (f"{way} (n={len(of)})", ", ".join(f"{each:.3f}" for each in loss), f"{recall:.1%}", spread)
        rows.append((*told, f"{mean(others) / (loss[2] - loss[1]):+.3f}"))
    heads = (
        "way | loss on what is to go: base, before, after | recall after | loss added to the rest | per nat forgotten"
    )
    return "\n".join(table(heads, rows))


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """A cell for each seed."""
    return (Cell(given.subject, seed, tuple(given.rates)) for seed in given.seeds)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then tell the table."""
    parser = parser_of(__doc__, seeds=(1, 2))
    parser.add_argument("--subject", default="pubmed")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    given = parser.parse_args(words)
    conduct("methods/forgetters", given, [cells], make, partial(report, given.seeds), paged=False)


if __name__ == "__main__":
    main()
