"""Plain text: paragraphs between empty lines, and headings where a line can be nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from addenda.text.blocks import Block, one_line, tidy

_UNDERLINE = re.compile(r"(=|-|~|\*)\1{2,}\s*")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})[.)]?\s+(?=\S)")
_MARKED = re.compile(r"(#{1,6})\s+(\S.*?)\s*#*\s*")
_ITEM = re.compile(r"\s*(?:[-*•–·]|\d{1,3}[.)]|[a-zA-Z][.)])\s+\S")
_ENDS = tuple(".!?;:,。！？；：，")
#: characters of a heading at most
HEADING = 80
#: a line shorter than this share of the longest beside it ends by itself, and was not broken to fit a page
SHORT = 0.6


def read(text: str) -> Iterator[Block]:
    """The blocks of a plain text.

    A heading stands alone between empty lines and does not end as a sentence does: it is underlined, in capitals, numbered
    (`2.1 Fees`: its level is how many numbers it has), or marked as in Markdown. Lines broken to fit a page are joined.
    """
    for part in re.split(r"\n[^\S\n]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = [line for line in part.split("\n") if line.strip()]
        while lines:
            heading, used = _heading(lines)
            if heading is None:
                yield Block(_joined(lines))
                break
            yield heading
            lines = lines[used:]


def _heading(lines: list[str]) -> tuple[Block | None, int]:
    """The heading that some lines begin with, and how many of them it takes; None where they begin with none."""
    first = lines[0].strip()
    marked = _MARKED.fullmatch(first)
    if marked:
        return Block(one_line(marked[2]), len(marked[1])), 1
    if len(lines) > 1 and len(first) <= HEADING and _UNDERLINE.fullmatch(lines[1].strip()):
        return Block(one_line(first), 1 if lines[1].strip()[0] == "=" else 2), 2
    if len(lines) > 1 or len(first) > HEADING or first.endswith(_ENDS):
        return None, 0
    numbered = _NUMBERED.match(first)
    if numbered and first[numbered.end()].isupper():
        return Block(one_line(first), numbered[1].count(".") + 1), 1
    if first.isupper() and sum(map(str.isalpha, first)) > 2:
        return Block(one_line(first), 1), 1
    return None, 0


def _joined(lines: list[str]) -> str:
    """The lines of a passage: what was broken to fit a page is joined, items of lists and short lines stay lines."""
    longest = max(len(line.rstrip()) for line in lines)
    made: list[str] = []
    before = ""
    for line in lines:
        ended = not before or len(before.rstrip()) < SHORT * longest or longest < HEADING // 2
        if ended or _ITEM.match(line):
            made.append(line)
        else:
            made[-1] = f"{made[-1].rstrip()} {line.lstrip()}"
        before = line
    return tidy("\n".join(made))
