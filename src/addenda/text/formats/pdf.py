"""PDF: headings by the size of their letters, paragraphs by the gaps between lines; what stands on every page is left out."""

from __future__ import annotations

import io
import logging
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from addenda.core.errors import DataError
from addenda.text.blocks import Block, needs, one_line

#: a line is a heading where its letters are larger than the text's by this factor; its characters at most
LARGER, HEADING = 1.12, 200
#: a gap larger than the usual one between two lines by this factor ends a paragraph
GAP = 1.3
#: lines at the top and the bottom of a page that may stand on every page
MARGIN = 2
_ITEM = re.compile(r"(?:[-*•–·▪◦]|\d{1,3}[.)])\s+\S")
_BULLET = re.compile(r"^[•·▪◦*–]\s+")
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")
_PAGE = re.compile(r"(?:page\s*)?[-–\[(]?\s*(?:\d{1,4}|[ivxlc]{1,6})\s*[-–\])]?(?:\s*(?:/|of)\s*\d{1,4})?")
#: a line of a table of contents: dots lead to a page's number
_LEADS = re.compile(r".*(?:\s?\.){4,}\s*\w{1,6}")
_ENDS = tuple(".!?:;。！？")


@dataclass(frozen=True)
class _Line:
    text: str
    size: float
    y: float
    page: int


def read(data: bytes) -> Iterator[Block]:
    """The blocks of a PDF file.

    Raises:
        DataError: it is encrypted, broken, or holds no text (pictures of pages alone); or the package is not installed.
    """
    try:
        import pypdf
    except ModuleNotFoundError:
        raise needs("pypdf", "PDF") from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it tells of every oddity that it reads past
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError("it is encrypted: save a copy without a password")
        pages = [_lines(page, number) for number, page in enumerate(reader.pages)]
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - broken files raise what they like
        if type(error).__name__ == "DependencyError":
            raise DataError("it is encrypted: save a copy without a password") from None
        raise DataError(f"it is broken, or no PDF file ({error or type(error).__name__})") from None
    if not any(pages):
        count = f"{len(pages)} page{'s' * (len(pages) != 1)}"
        raise DataError(
            f"its {count} hold pictures and no text, as a scan does: let a text recognition (OCR) read it first"
        )
    yield from _blocks(_without_margins(pages))


def _lines(page: Any, number: int) -> list[_Line]:
    """The lines of a page, with the size of their letters and their height on the page, both in points."""
    lines: list[_Line] = []
    words: list[str] = []
    sizes: Counter[float] = Counter()
    at = [0.0]

    def close() -> None:
        text = one_line("".join(words))
        if text and not _LEADS.fullmatch(text):
            lines.append(_Line(text, sizes.most_common(1)[0][0], at[0], number))
        words.clear()
        sizes.clear()

    def see(text: str, outer: Sequence[float], inner: Sequence[float], _: Any, size: float) -> None:
        for place, part in enumerate(text.split("\n")):
            if place:
                close()
            if part.strip():
                if not sizes:
                    at[0] = inner[4] * outer[1] + inner[5] * outer[3] + outer[5]
                scale = math.hypot(inner[2], inner[3]) * math.hypot(outer[2], outer[3])
                sizes[round(abs(size) * scale, 1)] += len(part)
            words.append(part)

    page.extract_text(visitor_text=see)
    close()
    return lines


def _without_margins(pages: list[list[_Line]]) -> list[_Line]:
    """All lines in order, without page numbers and what stands at the top or bottom of half of the pages."""
    seen = Counter(mark for lines in pages for mark in {_mark(line) for line in _margins(lines)})
    least = max(3, (len(pages) + 1) // 2)
    kept: list[_Line] = []
    for lines in pages:
        margins = {id(line) for line in _margins(lines) if seen[_mark(line)] >= least or _is_number(line.text)}
        kept += [line for line in lines if id(line) not in margins]
    return kept


def _margins(lines: list[_Line]) -> list[_Line]:
    return lines[:MARGIN] + lines[max(MARGIN, len(lines) - MARGIN) :]


def _mark(line: _Line) -> tuple[str, float]:
    """A line without its numbers, which are a page's own, and the size of its letters: a title is larger than what repeats it."""
    return _NUMBER.sub("#", line.text.casefold()), line.size


def _is_number(text: str) -> bool:
    return _PAGE.fullmatch(text.casefold()) is not None


def _blocks(lines: list[_Line]) -> Iterator[Block]:
    letters: Counter[float] = Counter()
    for line in lines:
        letters[line.size] += len(line.text)
    body = letters.most_common(1)[0][0] if letters else 0.0
    sizes = sorted({line.size for line in lines if _large(line, body)}, reverse=True)
    gaps = [a.y - b.y for a, b in pairwise(lines) if a.page == b.page and a.size == b.size == body]
    usual = statistics.median_low([gap for gap in gaps if gap > 0] or [1.2 * body])
    held: list[_Line] = []
    for line in lines:
        if held and _parts(held[-1], line, body, usual):
            yield from _block(held, body, sizes)
            held = []
        held.append(line)
    yield from _block(held, body, sizes)


def _large(line: _Line, body: float) -> bool:
    return line.size >= LARGER * body and len(line.text) <= HEADING and any(map(str.isalpha, line.text))


def _parts(before: _Line, line: _Line, body: float, usual: float) -> bool:
    """Whether a block ends between two lines."""
    if _large(before, body) or _large(line, body):
        near = before.page == line.page and 0 < before.y - line.y < 1.6 * line.size
        return before.size != line.size or not near
    if before.page != line.page or line.y > before.y:
        return before.text.endswith(_ENDS) or line.text[:1].isupper()
    return before.y - line.y > GAP * usual


def _block(lines: list[_Line], body: float, sizes: list[float]) -> Iterator[Block]:
    if not lines:
        return
    if _large(lines[0], body):
        yield Block(" ".join(line.text for line in lines), min(6, 1 + sizes.index(lines[0].size)))
        return
    made: list[str] = []
    for line in lines:
        if not made or _ITEM.match(line.text):
            made.append(_BULLET.sub("- ", line.text))
        elif made[-1].endswith("-") and made[-1][-2:-1].isalpha() and line.text[:1].islower():
            made[-1] = made[-1][:-1] + line.text  # a word that was broken at the line's end
        else:
            made[-1] += " " + line.text
    yield Block("\n".join(made))
