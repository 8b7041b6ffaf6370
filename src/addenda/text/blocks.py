"""Blocks: what a document is made of, whatever its format: headings, and passages of plain text in Markdown's form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from addenda.core.errors import DataError

_SPACES = re.compile(r"[^\S\n]+")
#: zero-width characters and soft hyphens, which are seen by tokenizers alone
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")
#: the line under a table's head
RULE = re.compile(r"\|(?: -+ \|)+")


@dataclass(frozen=True)
class Block:
    """A heading of a level from 1 to 6, or, at level 0, a passage: a paragraph, a list, a table, a piece of code.

    A paragraph is one line, unless its author broke it; an item of a list is a line that begins with "- " or "1. "; a table is
    lines of cells between bars, a rule under the first.
    """

    text: str
    level: int = 0


def tidy(text: str) -> str:
    """A text with single spaces, no space around line ends, and nothing that cannot be seen."""
    lines = [_SPACES.sub(" ", line).strip() for line in _UNSEEN.sub("", text).split("\n")]
    return "\n".join(line for line in lines if line)


def one_line(text: str) -> str:
    """A text as one line: a heading, or a cell of a table."""
    return " ".join(_UNSEEN.sub("", text).split())


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as lines between bars, a rule under the first; a table of one column as its lines."""
    cells = [[one_line(cell).replace("|", "/") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    width = max(map(len, cells), default=0)
    if width < 2:
        return "\n".join(row[0] for row in cells if row)
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in cells]
    return "\n".join([lines[0], "| " + " | ".join(["---"] * width) + " |", *lines[1:]])


def needs(package: str, what: str) -> DataError:
    """The error where a format's package is not installed."""
    return DataError(f"{what} needs the package {package}, which is not installed: pip install 'addenda[documents]'")
