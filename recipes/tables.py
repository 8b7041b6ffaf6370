"""Tables in pages: a study's tables, written between the marks of the page that people read.

A page `docs/results/<study>.md` is written by hand. Its tables stand between marks:

    <!-- tables: Ablations; Smaller budgets -->
    <!-- /tables -->

Marks with titles take the tables whose title, or whose first column where there is no title, begins so, in the order of
the titles. One pair of marks without titles takes the rest. The study's command fills them from its records; a place
stays empty while the records give no such table. Where there is no page yet, the tables are the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from addenda.core.errors import AddendaError
from addenda.telling.intervals import half_width

MARKS = re.compile(
    r"^<!-- tables(?:: (?P<titles>[^\n]+?))? -->\n(?P<body>.*?)^<!-- /tables -->$", re.DOTALL | re.MULTILINE
)
ENCODING = "utf-8"


def table(heads: str | Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """A table's lines, under heads that are given one by one or joined by ` | `; nothing where there is no row."""
    heads = heads.split(" | ") if isinstance(heads, str) else heads
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|", *lines] if lines else []


def joined(tables: Iterable[list[str]]) -> str:
    """Tables one after another, those without a line left out."""
    told = "\n\n".join("\n".join(lines) for lines in tables if lines)
    return told + "\n" if told else ""


def over(values: Sequence[float], places: int = 3) -> str:
    """Mean over seeds, and their range; a dash where there is none."""
    if not values:
        return "-"
    text = f"{np.mean(values):.{places}f}"
    return text + (f" ({min(values):.{places}f} to {max(values):.{places}f})" if len(values) > 1 else "")


def with_interval(numbers: Sequence[float], places: int = 3) -> str:
    """A number and the ends of its interval."""
    value, low, high = (f"{number:.{places}f}" for number in numbers[:3])
    return f"{value} [{low}, {high}]"


def with_t_interval(values: Sequence[float], places: int = 2, least: float = 0.0) -> str:
    """Mean and Student's t interval over seeds, of what cannot be under `least`."""
    mean, half = float(np.mean(values)), half_width(values)
    if len(values) < 2:
        return f"{mean:.{places}f} [one seed]"
    return with_interval((mean, max(least, mean - half), mean + half), places)


def write_tables(page: Path, text: str) -> None:
    """Put tables between the marks of a page, or make them the page where there is none.

    Raises:
        AddendaError: the page has no place for some of the tables.
    """
    page.write_text(filled(page.read_text(ENCODING), text, page.name) if page.exists() else text, ENCODING)


def filled(page: str, text: str, name: str) -> str:
    """The page with these tables between its marks; a page without marks was made of tables alone and is replaced."""
    marks = list(MARKS.finditer(page))
    if not marks:
        return text
    left = parts(text)
    bodies: dict[int, list[str]] = {}
    for mark in sorted(marks, key=lambda mark: mark["titles"] is None):  # those with titles choose first
        titles = mark["titles"].split("; ") if mark["titles"] else [""]
        bodies[mark.start()] = []
        for title in titles:
            taken = [part for part in left if part.lstrip("#| ").startswith(title)]
            bodies[mark.start()] += taken
            left = [part for part in left if part not in taken]
    if left:
        heads = "; ".join(part.splitlines()[0] for part in left)
        raise AddendaError(
            f"{name} has no place for: {heads}; add `<!-- tables -->` and `<!-- /tables -->`, a line each"
        )
    return MARKS.sub(lambda mark: _between(mark, bodies[mark.start()]), page)


def parts(text: str) -> list[str]:
    """What blank lines separate, a heading together with what follows it."""
    joined: list[str] = []
    for block in re.split(r"\n\n+", text.strip("\n")):
        if joined and joined[-1].startswith("#") and "\n" not in joined[-1]:
            joined[-1] += f"\n\n{block}"
        else:
            joined.append(block)
    return joined


def _between(mark: re.Match[str], taken: list[str]) -> str:
    first = mark[0].split("\n", 1)[0]
    return "\n".join([first, *("\n" + part for part in taken), "", "<!-- /tables -->"])
