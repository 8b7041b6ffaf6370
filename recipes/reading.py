"""Reading: does a small model answer from a text in front of it better once it has practised, and does it find the place?

    python -m recipes.reading --dry-run     # the cells that have no record yet
    python -m recipes.reading               # makes them, then the table of docs/results/reading.md

A base practises on paragraphs with questions by people that come with the package (`addenda.teaching.practice`): of
reading, nothing of any handbook. Then an invented handbook's questions (`recipes.handbooks`) are asked: with the section that
answers them in the window, and with nothing in the window, the handbook being plugged by pages (`OpenBook`), trained no
further. Both with what was practised, and without; and the last also after training on exercises mined from the handbook.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addenda
from addenda.measuring.asking.answers import answers_to, refuses
from addenda.teaching.choice import kind_for
from addenda.teaching.practice import Practice, begin_from
from addenda.teaching.study import plan_study
from addenda.teaching.teach_settings import TeachSettings
from addenda.text.pages import laid_out
from recipes.handbooks import PLAIN, PLAIN_VAIN, VAIN, Handbook, Question, handbook
from recipes.records import Named, Records, grouped, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import joined, over, table

#: what the model has before its eyes
SECTION, PAGES = "its section in the window", "the handbook, plugged by pages"
STUDIED = "the same, trained on exercises"
#: tokens of those, and the rate
TOKENS, RATE = 20_000, 1e-4
SORTS, ANSWER = (PLAIN, "direct", "turned"), 24


@dataclass(frozen=True)
class Cell(Named):
    """A handbook, what of it the model sees, and whether it has practised."""

    FRONT = ("of", "seed")

    where: str
    reader: bool
    seed: int
    base: str = "smollm2"

    @property
    def of(self) -> str:
        """What is asked how, without blanks."""
        return f"{self.where.replace(',', '').replace(' ', '-')}-{'reader' if self.reader else 'bare'}"

    @property
    def minutes(self) -> float:
        """That it takes, about."""
        return 12.0 if self.where == STUDIED else 5.0


def make(cell: Cell, folder: Path) -> str:
    """Ask, write the record."""
    base, book = addenda.load_base(cell.base), handbook(cell.seed)
    record = stamp(cell, base)
    names = _plugged(base, book, cell)
    asked = [one for one in book.questions if _asked(cell, book, one)]
    chats = [[{"role": "user", "content": _shown(cell, book, one) + one.question}] for one in asked]
    with base.using(*names) if names else base.off():
        said = answers_to(base, chats, ANSWER)
    pairs = list(zip(asked, said, strict=True))
    record |= {
        "right": dict(Counter(one.sort for one, answer in pairs if one.right(answer))),
        "refused": dict(Counter(one.sort for one, answer in pairs if refuses(answer))),
        "asked": dict(Counter(one.sort for one in asked)),
        "said": [[one.question, answer] for one, answer in pairs],
    }
    return recorded(cell, folder, record)


def _plugged(base: addenda.Base, book: Handbook, cell: Cell) -> list[str]:
    """Plug what a cell has; the names of what is to be on."""
    chunks = plan_study(base, {book.name: book.text}, ask=False, gain=False, log=False).chunks
    ids = laid_out(base.tokenizer, [f"{chunk.read}\n\n" for chunk in chunks.values()])
    kind = kind_for(base, TeachSettings(), ids)
    module = base.new("book", kind)
    reader = Practice(base, kind, list(module.sites())).learned() if cell.reader else None
    if cell.where != SECTION:
        if reader is not None:
            begin_from(base, module, reader)
        base.start_from_text("book", ids)
        if cell.where == STUDIED:
            _study(base, book, cell)
        return ["book"]
    base.unplug("book")
    if reader is not None:
        base.plug(reader, "reader")
    return list(base.modules)


def _study(base: addenda.Base, book: Handbook, cell: Cell) -> None:
    """Train the handbook's module on what is mined from it and answered."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "study"
        addenda.study(base, {book.name: book.text}, out=out, seed=cell.seed, ask=False, gain=False, log=False)
        corpus = [{"messages": one["messages"]} for one in addenda.load_study(out).records if one.get("answered", True)]
    addenda.train(
        base,
        "book",
        corpus=corpus,
        tokens=TOKENS,
        lr=RATE,
        seed=cell.seed,
        isolate=True,
        length=256,
        batch_rows=4,
        log=False,
    )


def _asked(cell: Cell, book: Handbook, one: Question) -> bool:
    """What one section answers; with the whole handbook also what none does."""
    return (one.sort in SORTS and bool(_section(book, one))) or (
        cell.where != SECTION and one.sort in (VAIN, PLAIN_VAIN)
    )


def _section(book: Handbook, asked: Question) -> str:
    """The first section that has what an answer needs; empty where it takes two."""
    return next((f"## {part}" for part in book.text.split("\n## ")[1:] if asked.right(part)), "")


def _shown(cell: Cell, book: Handbook, asked: Question) -> str:
    return f"{_section(book, asked)}\n\n" if cell.where == SECTION else ""


def report(records: Records, folder: Path) -> str:
    """What was answered rightly, by what the model saw and whether it had practised."""
    rows: list[Any] = []
    order = (SECTION, PAGES, STUDIED)
    groups = grouped(records, lambda run: (order.index(run["where"]), run["reader"]))
    for (at, read), mine in sorted(groups.items()):
        shares = [over([one["right"].get(sort, 0) / one["asked"][sort] for one in mine], 2) for sort in SORTS]
        shy = over([one["refused"].get(PLAIN, 0) / one["asked"][PLAIN] for one in mine], 2)
        vain = over([_vain(one["refused"]) / _vain(one["asked"]) for one in mine], 2) if at else "-"
        rows.append((order[at], "yes" if read else "no", len(mine), *shares, shy, vain))
    heads = ["before its eyes", "practised", "handbooks", *SORTS, "plain, refused though told", "untold, refused"]
    return joined([table(heads, rows)])


def _vain(counted: dict[str, int]) -> int:
    return counted.get(VAIN, 0) + counted.get(PLAIN_VAIN, 0)


def cells(given: Any, records: Records) -> Iterator[Cell]:
    """Every cell; the bare ones first."""
    ways = ((SECTION, False), (SECTION, True), (PAGES, False), (PAGES, True), (STUDIED, True))
    yield from (Cell(where, read, seed, given.base) for seed in given.seeds for where, read in ways)


if __name__ == "__main__":
    parser = parser_of(__doc__, seeds=(3, 4, 5))
    parser.add_argument("--base", default="smollm2")
    conduct("reading", parser.parse_args(), [cells], make, report)
