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
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import addenda
from addenda.plug.base import Base
from recipes.common import load
from recipes.records import device, in_processes, name_of, pending, read_records, write_record
from recipes.studies.subjects import subject

FOLDER = Path("docs/results/methods/forgetters")
WAYS = ("graddiff", "gu", "gu(repair=1.0)", "gs_lora(alpha=10.0)")
RATES = (3e-4,)
GONE, KEPT, OTHERS, SIZE = 8, 16, 8, 600
LEARNED, FORGETTING, LENGTH, ROWS = 48_000, 16_384, 128, 4
#: tokens of each text that are measured
MEASURED = 1_000


@dataclass(frozen=True)
class Cell:
    """A module of a seed, and all ways to take a text out of it."""

    subject: str
    seed: int
    rates: tuple[float, ...]

    @property
    def id(self) -> str:
        """Its name, which changes with its options."""
        return name_of(self, "forgetters", self.subject, self.seed)


def documents(name: str, seed: int) -> list[list[str]]:
    """What is to go, what stands for what is to stay, and what is reported of it: documents of a seed's own."""
    texts = [text[:SIZE] for text in subject(name).corpus if len(text) >= SIZE]
    count = GONE + KEPT + OTHERS
    chosen = texts[seed * count : (seed + 1) * count]
    return [chosen[:GONE], chosen[GONE : GONE + KEPT], chosen[GONE + KEPT :]]


def learned(texts: list[str], seed: int) -> Base:
    """The base with a module that has read these texts."""
    base = load("tiny")
    base.new("m", addenda.LoRA(rank=16), seed=seed)
    addenda.train(
        base, "m", corpus=texts, tokens=LEARNED, lr=2e-3, seed=seed, length=LENGTH, batch_rows=ROWS, log=False
    )  # fmt: skip
    return base


def make(cell: Cell, folder: Path) -> str:
    """Learn, forget in every way from the same start, measure, write the record."""
    gone, kept, others = documents(cell.subject, cell.seed)
    record: dict[str, Any] = {"run": asdict(cell), "device": device(), "torch": torch.__version__, "ways": {}}
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
    write_record(folder / f"{cell.id}.json", record)
    return cell.id


def table(records: list[dict[str, Any]]) -> str:
    """Means over records: what was known of what is to go, what is left, and what it cost what is to stay."""
    lines = [
        "| way | loss on what is to go: base, before, after | recall after | loss added to the rest | per nat forgotten |"
    ]
    lines += ["|---|---|---|---|---|"]
    for way in sorted({way for record in records for way in record["ways"]}):
        of = [record["ways"][way] for record in records if way in record["ways"]]
        loss = [mean(each["forget"]["loss"][state]["value"] for each in of) for state in ("bare", "before", "after")]
        recall = mean(each["forget"]["recall"]["after"]["value"] for each in of)
        others = [each["others"][0] for each in of]
        lines.append(
            f"| {way} (n={len(of)}) | {', '.join(f'{each:.3f}' for each in loss)} | {recall:.1%} | {mean(others):+.3f} "
            f"({min(others):+.3f} to {max(others):+.3f}) | {mean(others) / (loss[2] - loss[1]):+.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subject", default="pubmed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells = [Cell(given.subject, seed, tuple(given.rates)) for seed in given.seeds]
    waiting = pending(cells, FOLDER)
    if given.dry_run:
        print("\n".join(cell.id for cell, _ in waiting))
        return
    if not given.report:
        in_processes(make, waiting, given.workers)
    print(table([record for record in read_records(FOLDER) if record["run"]["seed"] in given.seeds]))


if __name__ == "__main__":
    main()
