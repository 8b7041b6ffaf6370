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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.core.registry import asked_for
from addenda.measuring.asking.edits import load_edits, score_edits
from addenda.plug.base import Base
from addenda.plug.scoring import score
from addenda.writes.write_rule import WriteRule
from recipes.common import load
from recipes.records import device, in_processes, name_of, pending, read_records, write_record

FOLDER = Path("docs/results/methods/write")
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
class Cell:
    """One way and seed: which facts, and how many."""

    way: str
    seed: int
    facts: int
    where: str = "tiny"

    @property
    def id(self) -> str:
        """Its name, which changes with its options."""
        return name_of(self, self.way, self.seed)


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
    record = {"run": asdict(cell), "scores": scores.as_dict(), "forgot": held, "seconds": seconds}
    record |= {"parameters": base.modules["m"].size(), "device": device(), "torch": torch.__version__}
    write_record(folder / f"{cell.id}.json", record | {"base": base.fingerprint})
    return cell.id


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


def report(records: list[dict[str, Any]]) -> str:
    """One row a way: means over seeds."""
    heads = [
        "way",
        "seeds",
        "reliability before",
        "reliability",
        "generality",
        "locality",
        "general text lost",
        "seconds",
    ]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for way in WAYS:
        mine = [r for r in records if r["run"]["way"] == way]
        if not mine:
            continue
        names = ("reliability_before", "reliability", "generality", "locality")
        cells = [[r["scores"][name]["value"] for r in mine if r["scores"][name] is not None] for name in names]
        told = [f"{sum(c) / len(c):.0%}" if c else "-" for c in cells]
        lost, took = (sum(r[key] for r in mine) / len(mine) for key in ("forgot", "seconds"))
        lines.append(f"| {way} | {len(mine)} | {' | '.join(told)} | {lost:+.4f} | {took:.0f} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--dry-run", action="store_true", help="list the cells that have no record yet")
    parser.add_argument("--report", action="store_true", help="write nothing")
    given = parser.parse_args(words)
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells = [Cell(way, seed, given.facts, given.base) for seed in given.seeds for way in given.ways]
    left = pending(cells, FOLDER)
    for cell, _ in left:
        print(cell.id)
    print(f"{len(left)} of {len(cells)} cells have no record; each takes a minute or two of one core")
    if given.dry_run:
        return
    if not given.report:
        in_processes(make, left, 1)
    print(report(read_records(FOLDER)))


if __name__ == "__main__":
    main()
