"""Penalties: what a module that knows French keeps of it while it learns PubMed, with and without each, at equal gain.

    python -m recipes.methods_penalty --dry-run          # the cells that have no record yet
    python -m recipes.methods_penalty                    # makes them, then prints the table
    python -m recipes.methods_penalty --ways plain osft --seeds 0 --tokens 100000
    python -m recipes.methods_penalty --report

On `tiny`, a LoRA of rank 8. The first training is one for all ways of a seed and leaves what EWC needs. Beside each way stand
what plain training had forgotten at the gain where the lesser of the two ended: by then both have learned as much. With replay
a tenth of the rows are French of the first training; its plain alternative is `replay`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addenda
from recipes.common import load, losses, precision, taught
from recipes.records import Named, Records, name_of, recorded, stamp
from recipes.studies.subjects import subject
from recipes.study import conduct, parser_of
from recipes.tables import over, table

#: the penalty, whether French is replayed, and what it is to be held against
WAYS: dict[str, tuple[str | None, bool, str]] = {
    "plain": (None, False, "plain"),
    "replay": (None, True, "plain"),
    "ewc-1e2": ("ewc(weight=1e2, rows=16)", False, "plain"),
    "ewc-1e4": ("ewc(weight=1e4, rows=16)", False, "plain"),
    "osft": ("osft", False, "plain"),
    "osft-0.8": ("osft(keep=0.8)", False, "plain"),
    "ilora": ("ilora", True, "replay"),
    "ilora-slow": ("ilora(decay=0.95)", True, "replay"),
}
FIRST, SECOND = "french", "pubmed"
LENGTH, ROWS, HELD, POINTS = 128, 4, 4_000, 4


@dataclass(frozen=True)
class Cell(Named):
    """One way and seed: tokens of the first training, and of the second."""

    FRONT = ("way", "seed")
    way: str
    seed: int
    first: int
    tokens: int
    where: str = "tiny"


def make(cell: Cell, folder: Path) -> str:
    """Train, measure, write the record."""
    base = load(cell.where)
    known, new = subject(FIRST), subject(SECOND)
    held = {FIRST: known.held, SECOND: new.held}
    options: dict[str, Any] = {"length": LENGTH, "batch_rows": ROWS, "seed": cell.seed, "precision": precision()}
    place = Path("runs") / name_of(Cell("first", cell.seed, cell.first, 0, cell.where), "penalty-first")
    if (place / "card.json").exists():
        base.plug(place, name="m")
    else:
        keeping = "ewc(weight=0, rows=16)"
        taught(
            base, "m", addenda.LoRA(rank=8), known.corpus, tokens=cell.first, penalty=keeping, replay=None, **options
        )
        base.modules["m"].save(place)
    before = _nats(base, held, "m")
    penalty, replayed, _ = WAYS[cell.way]
    report = addenda.train(
        base, "m", corpus=list(new.corpus), tokens=cell.tokens, penalty=penalty, log=False,
        replay=list(known.corpus) if replayed else None, local=0.0 if replayed else None,
        validation={SECOND: list(new.held), f"forgetting-{FIRST}": list(known.held)}, validation_tokens=HELD,
        validate_every=max(1, cell.tokens // (LENGTH * ROWS) // POINTS), **options,
    )  # fmt: skip
    curve = [(0.0, 0.0)]
    for line in report.history:
        if "validation" in line:
            now = {on: change["loss"] for on, change in line["validation"]["m"].items()}
            curve.append((before[SECOND] - now[SECOND], now[f"forgetting-{FIRST}"] - before[FIRST]))
    settings = [run.settings.get("kept") for run in base.modules["m"].card.training]
    found = {"before": before, "bare": _nats(base, held), "curve": curve, "kept": settings, "seconds": report.seconds}
    return recorded(cell, folder, stamp(cell, base) | found)


def _nats(base: addenda.Base, held: Any, on: str | None = None) -> dict[str, float]:
    """Nats per token of held-out text of both subjects."""
    return {name: found.nats for name, found in losses(base, held, on, tokens=HELD, length=LENGTH).items()}


def report(records: Records, folder: Path) -> str:
    """One row a way: means over seeds."""
    by_run = {(r["run"]["way"], r["run"]["seed"], r["run"]["tokens"], r["run"]["where"]): r for r in records}
    rows = []
    for way, (_, _, against) in WAYS.items():
        pairs = [(r["curve"], by_run.get((against, *key[1:]))) for key, r in by_run.items() if key[0] == way]
        equal = [
            [float(addenda.forgetting_at_gain([curve], min(max(g for g, _ in c) for c in (mine, other["curve"]))))
             for curve in (mine, other["curve"])]
            for mine, other in pairs if other is not None
        ]  # fmt: skip
        ends = ([curve[-1][at] for curve, _ in pairs] for at in (0, 1))
        if pairs:
            rows.append((way, against, len(pairs), *map(over, (*ends, *zip(*equal, strict=True)))))
    heads = "way | against | seeds | PubMed gained | French forgotten | at equal gain | the other at equal gain"
    return "\n".join(table(heads, rows))


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every way, seed after seed, one at a time: the first of a seed leaves what the others begin with."""
    for seed in given.seeds:
        yield from (Cell(way, seed, given.first, given.tokens, given.base) for way in given.ways)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then the table."""
    parser = parser_of(__doc__, seeds=(0, 1), first=32_768, tokens=16_384)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    given = parser.parse_args(words)
    given.workers = 1
    conduct("methods/penalty", given, [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
