"""Tables: a row and a column to their cell, a cell back to its row, and which row has more."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import english
from addenda.exercises.reading import Table, read
from addenda.exercises.wording import made


@dataclass(frozen=True)
class Tables(Mined):
    """Cells of tables whose first column names the rows."""

    phrasings: int = 2
    rows: int = 60

    name: ClassVar[str] = "tables"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Each cell by its row and column, each value that one row alone has, and pairs of rows compared."""
        for table in read(chunk).tables if english(chunk, others) else ():
            rows = table.rows[: self.rows]
            if any(not row[0] or len(row[0].split()) > 8 for row in rows) or len({row[0] for row in rows}) < len(rows):
                continue
            for at, column in enumerate(table.columns[1:], 1):
                held = Counter(row[at] for row in rows)
                for row in rows:
                    if row[at] and row[at] not in ("-", "–", "—"):
                        yield from self._cell(chunk, table, row, at, held[row[at]] == 1, draw)
                yield from self._compared(chunk, column, rows, at, draw)

    def _cell(
        self, chunk: Chunk, table: Table, row: Sequence[str], at: int, alone: bool, draw: Random
    ) -> Iterator[Made]:
        kind, column, key, value = low(table.columns[0]), low(table.columns[at]), low(row[0]), row[at].rstrip(".")
        verb = "are" if words.plural(column.split(" ")[0]) else "is"
        answer = f"The {column} for {key} {verb} {value}."
        asked = [
            f"What is the {column} for {key}?",
            f"Which {column} is given for {key}?",
            f"For {key}, what is the {column}?",
        ]
        if re.search(spans.MONEY, value):
            asked.append(f"How much is the {column} for {key}?")
        yield from made(asked, answer, self.called(), chunk, draw, self.phrasings)
        if alone:
            yield from made([f"Which {kind} has the {column} {value}?"], answer, self.called(), chunk, draw, 1)

    def _compared(
        self, chunk: Chunk, column: str, rows: Sequence[Sequence[str]], at: int, draw: Random
    ) -> Iterator[Made]:
        sums = [
            (row, float(match[0].replace(",", ""))) for row in rows if (match := re.search(r"\d+(?:\.\d+)?", row[at]))
        ]
        units = {re.sub(r"[\d.,]+", "", row[at]).strip() for row in rows}
        if (
            any(re.fullmatch(spans.CODE, row[at]) for row in rows)
            or len(sums) < 3
            or len(sums) != len(rows)
            or len(units) != 1
            or not units - {""}
        ):
            return
        for _ in range(min(3, len(rows) // 2)):
            (one, less), (two, more) = sorted(draw.sample(sums, 2), key=lambda pair: pair[1])
            if less == more:
                continue
            first, second = draw.sample([low(one[0]), low(two[0])], 2)
            asked = [
                f"Which has the higher {low(column)}, {first} or {second}?",
                f"For which is the {low(column)} higher: {first} or {second}?",
            ]
            answer = f"The {low(column)} is higher for {low(two[0])}: {two[at]}; for {low(one[0])} it is {one[at]}."
            yield from made(asked, answer, self.called(), chunk, draw, 1)


def low(text: str) -> str:
    """A cell or a column's name within a sentence."""
    return text if re.match(r"[A-Z][A-Z0-9]|.*\d|[A-Z][a-z]+ [A-Z]", text) else text[:1].lower() + text[1:]
