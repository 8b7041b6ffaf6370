"""Write rules for facts: what PMET writes at once, against a LoRA of equal size that is trained on the same facts.

    python -m recipes.methods_write --dry-run     # the cells that have no record yet
    python -m recipes.methods_write               # makes them, then prints the table
    python -m recipes.methods_write --report

On CounterFact's facts as `ADDENDA_DATA` has them. The LoRA stands beside the same layers as plain `pmet`, of the same rank, and
is trained on the statements for 120 steps, a quarter of the rows general text as replay; seconds of both are told. What is lost
is the loss added on PubMed abstracts, of which neither has read any.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import addenda
from addenda.core.registry import asked_for
from addenda.measuring.asking.edits import load_edits, score_edits
from addenda.plug.base import Base
from addenda.plug.scoring import score
from addenda.writes.write_rule import WriteRule
from recipes.common import load
from recipes.records import Named, Records, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import table

#: the rule; a LoRA at a rate, beside the layers of the first
WAYS: dict[str, str | float] = {
    "pmet": "pmet",
    "pmet, lam 10": "pmet(lam=10.0)",
    "pmet, lam 10, all layers": "pmet(lam=10.0, layers=(1, 2, 3, 4))",
    "lora, 1e-3": 1e-3,
    "lora, 5e-3": 5e-3,
}
HELD, GENERAL = 4_000, 8_000
LENGTH, ROWS = 32, 4


@dataclass(frozen=True)
class Cell(Named):
    """One way and seed: which facts, and how many."""

    FRONT = ("way", "seed")
    way: str
    seed: int
    facts: int
    where: str = "tiny"


def make(cell: Cell, folder: Path) -> str:
    """Write, measure, write the record."""
    base, way = load(cell.where), WAYS[cell.way]
    whole = load_edits()
    edits = whole[cell.seed :: max(1, len(whole) // cell.facts)][: cell.facts]
    if isinstance(way, str):
        report = addenda.edit(base, "m", edits, write=way, tokens=GENERAL, seed=cell.seed, measure=False)
        seconds = report.seconds
    else:
        seconds = _trained(base, edits, way, cell)
    scores = score_edits(base, edits, ["m"])
    held = _held(base)
    record = {"scores": scores.as_dict(), "forgot": held, "seconds": seconds}
    return recorded(cell, folder, stamp(cell, base) | record | {"parameters": base.modules["m"].size()})


def _trained(base: Base, edits: Sequence[addenda.Edit], lr: float, cell: Cell) -> float:
    """A LoRA beside down-projections, trained on what the facts say; the seconds that took."""
    rule: Any = asked_for(WriteRule, "pmet")
    base.new("m", addenda.LoRA(rank=len(edits), targets=tuple(rule.sites(base.anatomy))), seed=cell.seed)
    began = time.perf_counter()
    addenda.train(
        base, "m", corpus=[edit.statement for edit in edits], replay="general_train", replay_share=0.25, lr=lr,
        tokens=120 * LENGTH * ROWS, length=LENGTH, batch_rows=ROWS, seed=cell.seed, log=False,
    )  # fmt: skip
    return time.perf_counter() - began


def _held(base: Base) -> float:
    """Nats per token that the module adds on general text."""
    with base.off():
        bare = score(base, "pubmed_valid", tokens=HELD)
    with base.using("m"):
        return score(base, "pubmed_valid", tokens=HELD).minus(bare).nats


def report(records: Records, folder: Path) -> str:
    """One row a way: means over seeds."""
    rows: list[list[object]] = []
    for way in WAYS:
        mine = [r for r in records if r["run"]["way"] == way]
        if not mine:
            continue
        names = ("reliability_before", "reliability", "generality", "locality")
        shares = [[r["scores"][name]["value"] for r in mine if r["scores"][name] is not None] for name in names]
        told = [f"{mean(share):.0%}" if share else "-" for share in shares]
        lost, took = (mean(r[key] for r in mine) for key in ("forgot", "seconds"))
        rows.append([way, len(mine), *told, f"{lost:+.4f}", f"{took:.0f}"])
    heads = "way | seeds | reliability before | reliability | generality | locality | general text lost | seconds"
    return "\n".join(table(heads, rows))


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every way, seed after seed."""
    for seed in given.seeds:
        yield from (Cell(way, seed, given.facts, given.base) for way in given.ways)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then the table."""
    parser = parser_of(__doc__, seeds=(0, 1))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--facts", type=int, default=16)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    conduct("methods/write", parser.parse_args(words), [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
