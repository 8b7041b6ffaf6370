"""Replay by distillation: who keeps general text better at equal learning, a local loss or the bare base as a teacher.

    python -m recipes.replay_teacher --dry-run     # the cells that have no record yet
    python -m recipes.replay_teacher               # makes them, then the tables of docs/results/replay_teacher.md
    python -m recipes.replay_teacher --report      # the tables of the records there are

On `tiny`: PubMed is learned as language, a quarter of the rows are replay of the general sample. Each cell is one kind, one
way to use the replay, one seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addenda
from recipes.common import load, precision
from recipes.records import Named, Records, grouped, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import joined, over, table

#: what replay rows cost, and the weight of the local loss beside that
WAYS: dict[str, dict[str, Any]] = {
    "language": {"local": 0.0},
    "local": {"local": 1.0},
    "distilled": {"local": 0.0, "replay_objective": "distill"},
}
KINDS: dict[str, Any] = {"LoRA": addenda.LoRA(rank=16), "token-gate": addenda.NeutralResidues(extra=0.1, gate="token")}
LENGTH, ROWS, POINTS, HELD = 128, 4, 2, 2_000


@dataclass(frozen=True)
class Cell(Named):
    """One kind, one way, one seed."""

    FRONT = ("kind", "way", "seed")

    kind: str
    way: str
    seed: int
    tokens: int


def make(cell: Cell, folder: Path) -> str:
    """Train, measure along the way, write the record."""
    base = load("tiny")
    base.new("m", KINDS[cell.kind], seed=cell.seed)
    report = addenda.train(
        base, "m", corpus="pubmed_train", replay="general_train", replay_share=0.25, tokens=cell.tokens, seed=cell.seed,
        length=LENGTH, batch_rows=ROWS, log=False, precision=precision(), validation_tokens=HELD,
        validation={"learning": "pubmed_valid", "forgetting": "general_valid"},
        validate_every=max(1, cell.tokens // (LENGTH * ROWS) // POINTS), **WAYS[cell.way],
    )  # fmt: skip
    changes = [line["validation"]["m"] for line in report.history if "validation" in line]
    points = [[change["learning"]["value"], change["forgetting"]["value"]] for change in changes]
    moved = addenda.disturbance(base, "m", "general_valid", tokens=HELD)
    chats = addenda.changed_answers(base, "m", limit=20, tokens=8)
    record = stamp(cell, base) | {"points": points, "kl": float(moved.kl), "seconds": report.seconds}
    return recorded(cell, folder, record | {"chats": float(chats.changed), "parameters": base.modules["m"].size()})


def report(records: Records, folder: Path) -> str:
    """One table a kind: what was gained, what was forgotten, and that at the gain which every run reached."""
    return joined(_table(kind, mine) for kind, mine in grouped(records, lambda run: run["kind"]).items())


def _table(kind: str, records: Records) -> list[str]:
    gain = 0.95 * min(max(point[0] for point in record["points"]) for record in records)
    rows = []
    for way, mine in sorted(
        grouped(records, lambda run: run["way"]).items(), key=lambda item: list(WAYS).index(item[0])
    ):
        runs = [[(point[0], point[1]) for point in record["points"]] for record in mine]
        least = addenda.forgetting_at_gain(runs, gain)
        ends = ([record["points"][-1][at] for record in mine] for at in (0, 1))
        figures = [over(values, 4) for values in (*ends, [record["kl"] for record in mine])]
        chats, seconds = ([record[name] for record in mine] for name in ("chats", "seconds"))
        rows.append((way, len(mine), *figures, f"{least.value:.4f}", over(chats, 2), over(seconds, 0)))
    heads = [kind, "seeds", "gain", "forgotten", "KL", f"forgotten at a gain of {gain:.3f}", "chats changed", "seconds"]
    return table(heads, rows)


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every cell, seed after seed."""
    for seed in given.seeds:
        for kind in KINDS:
            for way in WAYS:
                yield Cell(kind, way, seed, given.tokens)


if __name__ == "__main__":
    conduct("replay_teacher", parser_of(__doc__, seeds=(0, 1), tokens=12_288).parse_args(), [cells], make, report)
