"""Compressors: bytes and held-out loss of trained modules, whole and compressed, beside a smaller module trained as long.

    python -m recipes.methods_compressors --dry-run      # the cells that have no record yet
    python -m recipes.methods_compressors                # makes them
    python -m recipes.methods_compressors --report       # a table of the records there are

On `tiny`, French novels or PubMed as the subject. The plain alternative has about as many bytes and is trained on the same
tokens. Compressors that fit look at text of the corpus; losses are on the subject's held-out documents.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import addenda
from addenda.compressing.compress import size_of
from recipes.common import load, losses, taught
from recipes.records import Named, Records, recorded, stamp
from recipes.studies.subjects import subject
from recipes.study import conduct, parser_of

SUBJECTS, TOKENS = ("french", "pubmed"), 32_768
SCORED: dict[str, Any] = {"tokens": 4_000, "length": 256}
#: by module: its kind, the compressors tried on it, and plain modules of about the sizes that come out
MODULES: dict[str, tuple[Any, tuple[str, ...], dict[str, Any]]] = {
    "ffn": (
        lambda: addenda.NeutralResidues(extra=0.05),
        (
            "ternary(steps=0, rounds=0)",
            "ternary(steps=0)",
            "ternary",
            "svd(rank=16, by='weights')",
            "svd(rank=16)",
        ),
        {"plain-width-4": lambda: addenda.NeutralResidues(width=4)},
    ),
    "lora": (
        lambda: addenda.LoRA(rank=16),
        ("svd(rank=4, by='weights')", "svd(rank=4)"),
        {"plain-rank-4": lambda: addenda.LoRA(rank=4)},
    ),
}


@dataclass(frozen=True)
class Cell(Named):
    """One module of one subject, and all that is made of it."""

    FRONT = ("compressors", "module", "subject", "seed")
    module: str
    subject: str
    seed: int
    tokens: int = TOKENS
    where: str = "tiny"


def make(cell: Cell, folder: Path) -> str:
    """Train, compress, measure, write the record."""
    base, chosen = load(cell.where), subject(cell.subject)
    kind, methods, plain = MODULES[cell.module]
    text, calibration, ways = list(chosen.held), list(chosen.corpus[-64:]), dict[str, Any]()
    bare = losses(base, {"held": text}, **SCORED)["held"]

    def keep(way: str, name: str) -> None:
        gain = bare.minus(losses(base, {"held": text}, name, **SCORED)["held"])
        told = {"bytes": size_of(base.modules[name]), "gain": [gain.nats, gain.low, gain.high]}
        ways[way] = told | {"documents": gain.documents}

    taught(base, "m", kind(), chosen.corpus, seed=cell.seed, tokens=cell.tokens)
    keep("whole", "m")
    for method in methods:
        addenda.compress(base, "m", method, name="small", text=text, calibration=calibration, tokens=1000)
        keep(method, "small")
        base.unplug("small")
    for way, of in plain.items():
        taught(base, "plain", of(), chosen.corpus, seed=cell.seed, tokens=cell.tokens)
        keep(way, "plain")
        base.unplug("plain")
    return recorded(cell, folder, stamp(cell, base) | {"bare": float(bare), "ways": ways})


def report(records: Records, folder: Path) -> str:
    """A line for each way: bytes, and the gain over the bare base in nats per token, by subject and seed, and its mean."""
    rows: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for record in (record for record in records if record["run"].get("module") in MODULES):
        for way, told in record["ways"].items():
            rows.setdefault((record["run"]["module"], way), []).append((told["bytes"], told["gain"][0]))
    return "\n".join(
        f"{module:5} {way:28} {found[0][0]:>10,} bytes  mean {mean(gain for _, gain in found):.4f}  "
        f"({', '.join(f'{gain:.4f}' for _, gain in found)})"
        for (module, way), found in rows.items()
    )


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every module of every subject, seed after seed."""
    for seed in given.seeds:
        for name in given.subjects:
            yield from (Cell(module, name, seed, given.tokens) for module in given.modules)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then tell the table."""
    parser = parser_of(__doc__, tokens=TOKENS)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS)
    parser.add_argument("--modules", nargs="+", default=tuple(MODULES), choices=tuple(MODULES))
    conduct("methods/compressor", parser.parse_args(words), [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
