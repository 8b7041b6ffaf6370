"""Reading: does a small model answer from a text in front of it better once it has learned to read?

    python -m recipes.reading --dry-run     # the cells that have no record yet
    python -m recipes.reading               # makes them, then the table of docs/results/reading.md

A LoRA learns 2,751 questions by people with the paragraphs that they are about in the window (SQuAD and XQuAD, from
`ADDENDA_DATA`): of reading, nothing of any handbook. Then an invented handbook's questions (`recipes.handbooks`) are asked
with the section that answers them in the window, by the bare model and with that LoRA; and with the whole handbook as an
`OpenBook` that has this LoRA and was trained no further. The LoRA is trained once, in runs/reader, in an hour of one core.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addenda
from addenda.measuring.asking.answers import answers_to
from recipes.common import data_folder
from recipes.handbooks import PLAIN, Handbook, Question, handbook
from recipes.records import Named, Records, grouped, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import joined, over, table

#: what the model has before its eyes
SECTION, BOOK = "its section in the window", "the handbook as an open book"
#: where the LoRA that reads is, or will be
READER = Path("runs/reader")
FILES = ("xquad_en", "squad_v2_dev_answerable")
#: paragraphs of a conversation, and questions on them; tokens that the reader trains on, once through them all
PARAGRAPHS, QUESTIONS, TOKENS = 2, 12, 230_000
SORTS, ANSWER = (PLAIN, "direct", "turned"), 24


@dataclass(frozen=True)
class Cell(Named):
    """A handbook, what of it the model sees, and whether it has learned to read."""

    FRONT = ("of", "seed")

    where: str
    reader: bool
    seed: int
    base: str = "smollm2"

    @property
    def of(self) -> str:
        """What is asked how, without blanks."""
        return f"{self.where.replace(' ', '-')}-{'reader' if self.reader else 'bare'}"

    @property
    def minutes(self) -> float:
        """That it takes, about."""
        return 5.0


def make(cell: Cell, folder: Path) -> str:
    """Ask, write the record."""
    base, book = addenda.load_base(cell.base), handbook(cell.seed)
    record = stamp(cell, base)
    names = ["reader"] if cell.reader else []
    if cell.reader:
        base.plug(reader(base, READER))
    if cell.where == BOOK:
        names = [_opened(base, book, names)]
    asked = [one for one in book.questions if one.sort in SORTS and _section(book, one)]
    chats = [[{"role": "user", "content": _shown(cell, book, one) + one.question}] for one in asked]
    with base.using(*names) if names else base.off():
        said = answers_to(base, chats, ANSWER)
    pairs = list(zip(asked, said, strict=True))
    record |= {
        "right": dict(Counter(one.sort for one, answer in pairs if one.right(answer))),
        "asked": dict(Counter(one.sort for one in asked)),
        "said": [[one.question, answer] for one, answer in pairs],
    }
    return recorded(cell, folder, record)


def reader(base: addenda.Base, place: Path) -> Path:
    """The folder of a LoRA that has learned to read, which is trained where there is none."""
    if not place.exists():
        base.new("reader", addenda.LoRA(rank=16))
        addenda.train(
            base, "reader", corpus=exercises(), tokens=TOKENS, length=1024, batch_rows=2, isolate=True, out=place
        )  # fmt: skip
        base.unplug("reader")
    return place


def exercises() -> list[dict[str, Any]]:
    """Conversations: some paragraphs and questions on them, each answered in the paragraph's own words."""
    asked: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in FILES:
        path = data_folder() / "squad" / f"{name}.jsonl.gz"
        if not path.is_file():
            raise addenda.AddendaError(f"no '{path}'; ADDENDA_DATA names the folder of the data")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for one in map(json.loads, lines):
                asked[one["context"]].append((one["question"].strip(), one["answers"][0]))
    draw, made = random.Random(0), list[dict[str, Any]]()
    paragraphs = list(asked)
    draw.shuffle(paragraphs)
    for at in range(0, len(paragraphs) - 1, PARAGRAPHS):
        read = paragraphs[at : at + PARAGRAPHS]
        pairs = [pair for one in read for pair in asked[one]]
        draw.shuffle(pairs)
        before = ["\n\n".join(read) + "\n\n"] + [""] * len(pairs)
        said = [
            message
            for text, (question, answer) in zip(before, pairs[:QUESTIONS], strict=False)
            for message in (
                {"role": "user", "content": text + question},
                {"role": "assistant", "content": f"{answer[:1].upper()}{answer[1:]}."},
            )
        ]
        made.append({"messages": said})
    return made


def _section(book: Handbook, asked: Question) -> str:
    """The first section that has what an answer needs; empty where it takes two."""
    return next((f"## {part}" for part in book.text.split("\n## ")[1:] if asked.right(part)), "")


def _shown(cell: Cell, book: Handbook, asked: Question) -> str:
    return f"{_section(book, asked)}\n\n" if cell.where == SECTION else ""


def _opened(base: addenda.Base, book: Handbook, names: Sequence[str]) -> str:
    """An untrained `OpenBook`, with the reader's products where there is a reader."""
    module = base.new("book", addenda.OpenBook(count=len(base.tokenize(book.text))), text=book.text)
    mine = module.tensors()
    known = {key: tensor for name in names for key, tensor in base.modules[name].tensors().items() if key in mine}
    module.load_tensors(mine | known)
    return "book"


def report(records: Records, folder: Path) -> str:
    """What was answered rightly, by what the model saw and whether it had learned to read."""
    rows: list[Any] = []
    groups = grouped(records, lambda run: (run["where"] == BOOK, run["reader"]))
    for (booked, read), mine in sorted(groups.items()):
        shares = [over([one["right"].get(sort, 0) / one["asked"][sort] for one in mine], 2) for sort in SORTS]
        rows.append((BOOK if booked else SECTION, "yes" if read else "no", len(mine), *shares))
    return joined([table(["before its eyes", "learned to read", "handbooks", *SORTS], rows)])


def cells(given: Any, records: Records) -> Iterator[Cell]:
    """Every cell; the bare ones first."""
    ways = ((SECTION, False), (SECTION, True), (BOOK, True))
    yield from (Cell(where, read, seed, given.base) for seed in given.seeds for where, read in ways)


if __name__ == "__main__":
    parser = parser_of(__doc__, seeds=(0, 1))
    parser.add_argument("--base", default="smollm2")
    conduct("reading", parser.parse_args(), [cells], make, report)
