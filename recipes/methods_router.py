"""Routers: prompts of two subjects and of general text, given to the right module, or to none, by each router.

    python -m recipes.methods_router                 # makes the records of docs/results/methods/router
    python -m recipes.methods_router --seeds 0       # one seed

For WISE, whose distance is the module's own, a LoRA learns each subject first; `nearest` asks nothing of the module. Prompts are
held-out text, 10 and 40 words long. The plain alternative at the same cost is the nearest mean with next to no whitening,
`nearest(components=1)`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import addenda
from addenda.core.registry import asked_for
from addenda.routers.router import Router
from recipes.common import load, taught
from recipes.gates import GENERAL, general
from recipes.records import Named, Records, name_of, recorded, stamp
from recipes.studies.subjects import subject
from recipes.study import conduct, parser_of

SUBJECTS = ("french", "pubmed")
ROUTERS = ("nearest", "nearest(components=1)", "wise", "wise(layer=3)")
WORDS, PROMPTS, AT_MOST = (10, 40), 100, 0.05


@dataclass(frozen=True)
class Cell(Named):
    """A router and a seed, of training and of what prompts are drawn."""

    router: str
    seed: int
    tokens: int
    where: str = "tiny"

    @property
    def id(self) -> str:
        """Its name, which changes with its options."""
        return name_of(self, self.router.partition("(")[0], self.seed)


def drawn(texts: Sequence[str], words: int, seed: int) -> list[str]:
    """Prompts of so many words from anywhere in texts."""
    random_ = random.Random(seed)
    found: list[str] = []
    for _ in range(PROMPTS):
        said = random_.choice(texts).split()
        start = random_.randrange(max(1, len(said) - words))
        found.append(" ".join(said[start : start + words]))
    return found


def make(cell: Cell, folder: Path) -> str:
    """Train, learn the keys, route, write the record."""
    base = load(cell.where)
    for name in SUBJECTS:
        kind, corpus = addenda.LoRA(rank=8), list(subject(name).corpus)
        if asked_for(Router, cell.router).of_module:
            taught(base, name, kind, corpus, seed=cell.seed, tokens=cell.tokens)
        else:
            base.new(name, kind, seed=cell.seed)
        addenda.learn_route(base, name, corpus, router=cell.router, at_most=AT_MOST, prompts=512, seed=cell.seed)
    shares: dict[str, Any] = {}
    held = {name: list(subject(name).held) for name in SUBJECTS} | {name: general(name) for name in GENERAL}
    for name, texts in held.items():
        for words in WORDS:
            chosen = addenda.route(base, drawn(texts, words, cell.seed), cell.router, at_most=AT_MOST)
            shares[f"{name}, {words} words"] = {it: sum(it in row for row in chosen) / len(chosen) for it in SUBJECTS}
    return recorded(cell, folder, stamp(cell) | {"shares": shares, "prompts": PROMPTS, "at_most": AT_MOST})


def report(records: Records, folder: Path) -> str:
    """One line for each router: right, wrong, and general prompts that were given to any, means over seeds."""
    lines = []
    for router in sorted({record["run"]["router"] for record in records}):
        mine = [record["shares"] for record in records if record["run"]["router"] == router]
        for words in WORDS:
            given = {name: [shares[f"{name}, {words} words"] for shares in mine] for name in (*SUBJECTS, *GENERAL)}
            right = [shares[name] for name in SUBJECTS for shares in given[name]]
            wrong = [sum(shares.values()) - shares[name] for name in SUBJECTS for shares in given[name]]
            others = {name: sum(sum(shares.values()) for shares in given[name]) / len(mine) for name in GENERAL}
            lines.append(
                f"{router}, {len(mine)} seeds, {words} words: right {mean(right):.1%} ({min(right):.0%} to "
                f"{max(right):.0%}), wrong {mean(wrong):.1%}; general prompts given to a module: "
                + ", ".join(f"{name} {share:.1%}" for name, share in others.items())
            )
    return "\n".join(lines)


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every router, seed after seed."""
    for seed in given.seeds:
        yield from (Cell(router, seed, given.tokens, given.base) for router in given.routers)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then say what they hold."""
    parser = parser_of(__doc__, tokens=30_000)
    parser.add_argument("--routers", nargs="+", default=list(ROUTERS))
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    conduct("methods/router", parser.parse_args(words), [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
