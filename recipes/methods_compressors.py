"""Compressors: bytes and held-out loss of trained modules, whole and compressed, beside a smaller module trained as long.

    python -m recipes.methods_compressors --dry-run      # the cells that have no record yet
    python -m recipes.methods_compressors                # makes them
    python -m recipes.methods_compressors --report       # a table of the records there are

On `tiny`, French novels or PubMed as the subject. The plain alternative has about as many bytes and is trained on the same
tokens. Compressors that fit look at text of the corpus; losses are on the subject's held-out documents.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.compressing.compress import size_of
from addenda.plug.scoring import score
from recipes.common import load, precision
from recipes.records import device, name_of, pending, read_records, write_record
from recipes.studies.subjects import subject

FOLDER = Path("docs/results/methods/compressor")
SUBJECTS, SEEDS = ("french", "pubmed"), (0, 1, 2)
TOKENS, LENGTH, ROWS, HELD = 32_768, 256, 8, 4_000
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
class Cell:
    """One module of one subject, and all that is made of it."""

    module: str
    subject: str
    seed: int
    tokens: int = TOKENS
    where: str = "tiny"

    @property
    def id(self) -> str:
        """Its name, which changes with its options."""
        return name_of(self, "compressors", self.module, self.subject, self.seed)


def make(cell: Cell, folder: Path) -> str:
    """Train, compress, measure, write the record."""
    base, chosen = load(cell.where), subject(cell.subject)
    kind, methods, plain = MODULES[cell.module]
    held, calibration = list(chosen.held), list(chosen.corpus[-64:])
    with base.off():
        bare = score(base, held, tokens=HELD, length=LENGTH)
    record: dict[str, Any] = {"run": asdict(cell), "bare": float(bare), "ways": {}, "device": device()}
    record |= {"torch": torch.__version__, "base": base.fingerprint}

    def keep(way: str, name: str) -> None:
        with base.using(name):
            gain = bare.minus(score(base, held, tokens=HELD, length=LENGTH))
        told = {"bytes": size_of(base.modules[name]), "gain": [gain.nats, gain.low, gain.high]}
        record["ways"][way] = told | {"documents": gain.documents}

    def train(name: str, of: Any) -> None:
        base.new(name, of, seed=cell.seed)
        addenda.train(
            base, name, corpus=list(chosen.corpus), replay="general_train", tokens=cell.tokens, seed=cell.seed,
            length=LENGTH, batch_rows=ROWS, precision=precision(), log=False,
        )  # fmt: skip

    train("m", kind())
    keep("whole", "m")
    for method in methods:
        addenda.compress(base, "m", method, name="small", text=held, calibration=calibration, tokens=1000)
        keep(method, "small")
        base.unplug("small")
    for way, of in plain.items():
        train("plain", of())
        keep(way, "plain")
        base.unplug("plain")
    write_record(folder / f"{cell.id}.json", record)
    return cell.id


def report(folder: Path) -> str:
    """A line for each way: bytes, and the gain over the bare base in nats per token, by subject and seed, and its mean."""
    rows: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for record in read_records(folder):
        if record["run"].get("module") in MODULES:
            for way, told in record["ways"].items():
                rows.setdefault((record["run"]["module"], way), []).append((told["bytes"], told["gain"][0]))
    lines = []
    for (module, way), cells in rows.items():
        gains = ", ".join(f"{gain:.4f}" for _, gain in cells)
        mean = sum(gain for _, gain in cells) / len(cells)
        lines.append(f"{module:5} {way:28} {cells[0][0]:>10,} bytes  mean {mean:.4f}  ({gains})")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tell what has no record yet")
    parser.add_argument("--report", action="store_true", help="the table of the records there are")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--modules", nargs="+", default=tuple(MODULES), choices=tuple(MODULES))
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args(words)
    given.folder.mkdir(parents=True, exist_ok=True)
    cells = [Cell(m, s, seed, given.tokens) for seed in given.seeds for s in given.subjects for m in given.modules]
    for cell, folder in pending(cells, given.folder) if not given.report else ():
        print(cell.id if given.dry_run else make(cell, folder), flush=True)
    if not given.dry_run:
        print(report(given.folder))


if __name__ == "__main__":
    main()
