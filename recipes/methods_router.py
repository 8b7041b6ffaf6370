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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.core.registry import asked_for
from addenda.routers.router import Router
from recipes.common import load, precision
from recipes.gates import GENERAL, general
from recipes.records import device, in_processes, name_of, pending, read_records, write_record
from recipes.studies.subjects import subject

FOLDER = Path("docs/results/methods/router")
SUBJECTS = ("french", "pubmed")
ROUTERS = ("nearest", "nearest(components=1)", "wise", "wise(layer=3)")
WORDS, PROMPTS, AT_MOST = (10, 40), 100, 0.05


@dataclass(frozen=True)
class Cell:
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
        base.new(name, addenda.LoRA(rank=8), seed=cell.seed)
        if asked_for(Router, cell.router).of_module:
            addenda.train(
                base, name, corpus=list(subject(name).corpus), replay="general_train", tokens=cell.tokens, seed=cell.seed,
                length=256, batch_rows=8, precision=precision(), log=False,
            )  # fmt: skip
        corpus = list(subject(name).corpus)
        addenda.learn_route(base, name, corpus, router=cell.router, at_most=AT_MOST, prompts=512, seed=cell.seed)
    shares: dict[str, Any] = {}
    held = {name: list(subject(name).held) for name in SUBJECTS} | {name: general(name) for name in GENERAL}
    for name, texts in held.items():
        for words in WORDS:
            chosen = addenda.route(base, drawn(texts, words, cell.seed), cell.router, at_most=AT_MOST)
            shares[f"{name}, {words} words"] = {it: sum(it in row for row in chosen) / len(chosen) for it in SUBJECTS}
    record = {"run": asdict(cell), "shares": shares, "prompts": PROMPTS, "at_most": AT_MOST}
    write_record(folder / f"{cell.id}.json", record | {"device": device(), "torch": torch.__version__})
    return cell.id


def report(records: Sequence[dict[str, Any]]) -> str:
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
                f"{router}, {len(mine)} seeds, {words} words: right {sum(right) / len(right):.1%} ({min(right):.0%} to "
                f"{max(right):.0%}), wrong {sum(wrong) / len(wrong):.1%}; general prompts given to a module: "
                + ", ".join(f"{name} {share:.1%}" for name, share in others.items())
            )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then say what they hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routers", nargs="+", default=list(ROUTERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    given = parser.parse_args(words)
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells = [Cell(router, seed, given.tokens, given.base) for seed in given.seeds for router in given.routers]
    in_processes(make, pending(cells, FOLDER), 1)
    print(report(read_records(FOLDER)))


if __name__ == "__main__":
    main()
