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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.plug.base import Base
from addenda.plug.scoring import score
from recipes.common import load, precision
from recipes.records import device, in_processes, name_of, pending, read_records, write_record
from recipes.studies.subjects import subject

FOLDER = Path("docs/results/methods/penalty")
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
class Cell:
    """One way and seed: tokens of the first training, and of the second."""

    way: str
    seed: int
    first: int
    tokens: int
    where: str = "tiny"

    @property
    def id(self) -> str:
        """Its name, which changes with its options."""
        return name_of(self, self.way, self.seed)


def make(cell: Cell, folder: Path) -> str:
    """Train, measure, write the record."""
    base = load(cell.where)
    known, new = subject(FIRST), subject(SECOND)
    options: dict[str, Any] = {"length": LENGTH, "batch_rows": ROWS, "seed": cell.seed, "precision": precision()}
    place = Path("runs") / name_of(Cell("first", cell.seed, cell.first, 0, cell.where), "penalty-first")
    if (place / "card.json").exists():
        base.plug(place, name="m")
    else:
        base.new("m", addenda.LoRA(rank=8), seed=cell.seed)
        corpus, keeping = list(known.corpus), "ewc(weight=0, rows=16)"
        addenda.train(base, "m", corpus=corpus, tokens=cell.first, penalty=keeping, log=False, **options)
        base.modules["m"].save(place)
    before = _losses(base)
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
    training = base.modules["m"].card.training
    record = {"run": asdict(cell), "before": before, "bare": _losses(base, bare=True), "curve": curve}
    record |= {"kept": [run.settings.get("kept") for run in training], "seconds": report.seconds}
    record |= {"device": device(), "torch": torch.__version__, "base": base.fingerprint}
    write_record(folder / f"{cell.id}.json", record)
    return cell.id


def _losses(base: Base, bare: bool = False) -> dict[str, float]:
    """Nats per token of held-out text of both subjects."""
    with base.off() if bare else base.using("m"):
        return {
            name: score(base, list(subject(name).held), tokens=HELD, length=LENGTH).nats for name in (FIRST, SECOND)
        }


def report(records: list[dict[str, Any]]) -> str:
    """One row a way: means over seeds."""
    heads = ["way", "against", "seeds", "PubMed gained", "French forgotten", "at equal gain", "the other at equal gain"]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    by_run = {(r["run"]["way"], r["run"]["seed"], r["run"]["tokens"], r["run"]["where"]): r for r in records}
    for way, (_, _, against) in WAYS.items():
        pairs = [(r, by_run.get((against, *key[1:]))) for key, r in by_run.items() if key[0] == way]
        if not pairs:
            continue
        cells = [[r["curve"][-1][0] for r, _ in pairs], [r["curve"][-1][1] for r, _ in pairs], [], []]
        for mine, other in pairs:
            if other is not None:
                gain = min(max(point[0] for point in r["curve"]) for r in (mine, other))
                cells[2].append(float(addenda.forgetting_at_gain([mine["curve"]], gain)))
                cells[3].append(float(addenda.forgetting_at_gain([other["curve"]], gain)))
        told = [f"{sum(c) / len(c):.3f} ({min(c):.3f} to {max(c):.3f})" if c else "-" for c in cells]
        lines.append(f"| {way} | {against} | {len(pairs)} | {' | '.join(told)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--first", type=int, default=32_768, help="tokens of French")
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens of PubMed")
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--dry-run", action="store_true", help="list the cells that have no record yet")
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args(words)
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells = [Cell(way, seed, given.first, given.tokens, given.base) for seed in given.seeds for way in given.ways]
    left = pending(cells, FOLDER)
    for cell, _ in left:
        print(cell.id)
    print(f"{len(left)} of {len(cells)} cells have no record; each takes a minute or two of one core")
    if given.dry_run:
        return
    if not given.report:
        in_processes(make, left, 1)  # one at a time: the first of a seed leaves what the others begin with
    print(report(read_records(FOLDER)))


if __name__ == "__main__":
    main()
