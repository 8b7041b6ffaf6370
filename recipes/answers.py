"""Answers: how a small model learns a handbook, by what is plugged, what it studies and how long.

    python -m recipes.answers --dry-run     # the cells that have no record yet, with their minutes on two cores
    python -m recipes.answers               # makes them, then the tables of docs/results/answers.md
    python -m recipes.answers --report      # the tables of the records there are

An invented handbook of 1,400 words (`recipes.handbooks`), of which the model has never read. Exercises are mined from it, a
module is trained on them, and it is asked questions that go round the handbook's words. Each cell is one way, one number of
tokens, one seed, which is the handbook's too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addenda
from addenda.core.contracts import Kind
from addenda.measuring.asking.answers import answers_to, refuses
from addenda.plug.scoring import fast_precision
from addenda.telling.intervals import SHARE, of_mean
from recipes.handbooks import Handbook, handbook
from recipes.records import Named, Records, grouped, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import joined, over, table, with_interval

#: kinds of exercises that a way leaves out
WAYS: dict[str, tuple[str, ...]] = {
    "bare": (),
    "in the window": (),
    "LoRA": (),
    "LoRA, none reworded": ("reworded",),
    "cartridge": (),
    "LoRA beside the text": (),
    "teach": (),
}
#: tokens of training of each way, and about how many it trains a second on two cores
TOKENS: dict[str, tuple[tuple[int, ...], int]] = {
    "bare": ((0,), 1),
    "in the window": ((0,), 1),
    "LoRA": ((80_000, 320_000), 500),
    "LoRA, none reworded": ((320_000,), 500),
    "cartridge": ((20_000, 80_000, 160_000), 300),
    "LoRA beside the text": ((80_000,), 300),
    "teach": ((80_000,), 150),
}
ANSWER, GENERAL, SORTS = 48, 4_000, ("direct", "turned", "combined")


@dataclass(frozen=True)
class Cell(Named):
    """One way to learn the handbook of a seed, with so many tokens."""

    FRONT = ("way", "tokens", "seed")

    way: str
    tokens: int
    seed: int
    base: str = "smollm2"

    @property
    def id(self) -> str:
        """The name of its record, without blanks."""
        return super().id.replace(", ", "-").replace(" ", "-")

    @property
    def minutes(self) -> float:
        """That it takes, with the questions."""
        return 2 + self.tokens / TOKENS[self.way][1] / 60


def make(cell: Cell, folder: Path) -> str:
    """Study, train, ask, write the record."""
    base, book = addenda.load_base(cell.base), handbook(cell.seed)
    record, began = stamp(cell, base), time.perf_counter()
    if cell.way == "teach":
        modules = ["m"]
        record |= _taught(base, book, cell)
    else:
        modules = _learned(base, book, cell) if cell.tokens else []
    trained = time.perf_counter() - began
    before = f"Answer from this handbook.\n\n{book.text}" if cell.way == "in the window" else ""
    chats = [[*_system(before), {"role": "user", "content": one.question}] for one in book.questions]
    with base.using(modules) if modules else base.off():
        said = answers_to(base, chats, ANSWER)
    right = Counter(one.sort for one, answer in zip(book.questions, said, strict=True) if one.right(answer))
    record |= {
        "right": dict(right),
        "refused": dict(Counter(one.sort for one, answer in zip(book.questions, said, strict=True) if refuses(answer))),
        "asked": dict(Counter(one.sort for one in book.questions)),
        "seconds": trained,
        "parameters": sum(t.numel() for name in modules for t in base.modules[name].tensors().values()),
        "said": [[one.question, answer] for one, answer in zip(book.questions, said, strict=True)],
    }
    if modules:
        found = addenda.evaluate(base, {"general": "general_valid"}, modules, tokens=GENERAL)
        assert found.texts[0].difference is not None
        record["forgotten"] = found.texts[0].difference.nats
    return recorded(cell, folder, record)


def _system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}] if text else []


def _learned(base: addenda.Base, book: Handbook, cell: Cell) -> list[str]:
    """Train what a way plugs; the names of what is to be on."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "study"
        addenda.study(base, {book.name: book.text}, out=out, seed=cell.seed, ask=False, gain=False, log=False)
        studied = addenda.load_study(out).records
    corpus = [{"messages": one["messages"]} for one in studied if one["kind"] not in WAYS[cell.way]]
    whole = addenda.Cartridge(count=len(base.tokenize(book.text)), init="text")
    reads = {"cartridge": whole, "LoRA beside the text": addenda.OpenBook(count=whole.count)}
    kind: Kind = reads.get(cell.way, addenda.LoRA(rank=16))
    base.new("m", kind, seed=cell.seed, text=book.text if kind.starts_from_text else None)
    addenda.train(
        base, "m", corpus=corpus, tokens=cell.tokens, seed=cell.seed, isolate=True, length=256, batch_rows=4, log=False,
        precision=fast_precision(base.device),
    )  # fmt: skip
    return ["m"]


def _taught(base: addenda.Base, book: Handbook, cell: Cell) -> dict[str, Any]:
    """Let `teach` do all of it, as one command without options does, and tell what else moved."""
    with tempfile.TemporaryDirectory() as place:
        found = addenda.teach(base, "m", {book.name: book.text}, out=Path(place) / "m", seed=cell.seed, log=False)
    told = found.as_dict()
    kept = ("changed", "after", "leaked", "alone", "forgot", "kind", "bytes", "right", "before")
    return {"taught": {name: told[name] for name in kept}}


def report(records: Records, folder: Path) -> str:
    """What was answered, by way and tokens; and of each whole `teach` what else moved."""
    heads = [
        "way",
        "tokens",
        "seeds",
        "right [95%]",
        *SORTS,
        "refused of unanswerable",
        "forgotten, nats",
        "MB",
        "minutes",
    ]
    rows: list[Any] = []
    order = list(WAYS)
    groups = grouped(records, lambda run: (order.index(run["way"]), run["tokens"]))
    for (at, tokens), mine in sorted(groups.items()):
        each = [over([_share(one, (sort,)) for one in mine], 2) for sort in SORTS]
        forgotten = [one["forgotten"] for one in mine if "forgotten" in one]
        size = over([one["parameters"] * 4 / 1e6 for one in mine], 0)
        rows.append((
            order[at], f"{tokens:,}", len(mine), _pooled(mine), *each,
            over([_refused(one) for one in mine], 2), over(forgotten, 3) if forgotten else "", size,
            over([one["seconds"] / 60 for one in mine], 0),
        ))  # fmt: skip
    return joined([table(heads, rows), *_what_moved([record for record in records if "taught" in record])])


def _what_moved(records: Records) -> list[str]:
    """A table of what `teach` itself told at its end."""
    if not records:
        return []
    heads = [
        "handbook",
        "held-out exercises",
        "general chats changed",
        "after a question",
        "speak its words",
        "general text, nats",
    ]
    rows: list[Any] = []
    for record in records:
        told = record["taught"]
        shares = [*told["right"].values()][:1] + [told[name] for name in ("changed", "after", "leaked")]
        rows.append((
            record["run"]["seed"], *(with_interval((one["value"], one["low"], one["high"]), 2) for one in shares),
            f"{told['forgot']['value']:+.4f}",
        ))  # fmt: skip
    return [table(heads, rows)]


def _pooled(records: Records) -> str:
    """The share of all questions with an answer that was right, with its interval over questions."""
    asked = sum(record["asked"][sort] for record in records for sort in SORTS)
    right = sum(record["right"].get(sort, 0) for record in records for sort in SORTS)
    found = of_mean([1.0] * right + [0.0] * (asked - right), within=SHARE)
    return with_interval((found.value, found.low, found.high), 2)


def _share(record: dict[str, Any], sorts: tuple[str, ...]) -> float:
    return sum(record["right"].get(sort, 0) for sort in sorts) / sum(record["asked"][sort] for sort in sorts)


def _refused(record: dict[str, Any]) -> float:
    return record["refused"].get("unanswerable", 0) / record["asked"]["unanswerable"]


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every cell, the quick ones first."""
    every = [
        Cell(way, tokens, seed, given.base)
        for seed in given.seeds
        for way in given.ways
        for tokens in TOKENS[way][0]
        if tokens <= given.most
    ]
    yield from sorted(every, key=lambda cell: (cell.seed, cell.minutes))


if __name__ == "__main__":
    parser = parser_of(__doc__, seeds=(0,))
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--most", type=int, default=10**9, help="tokens of a cell at most")
    conduct("answers", parser.parse_args(), [cells], make, report)
