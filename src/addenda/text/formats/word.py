"""Word (.docx): its headings, paragraphs, lists and tables, in the text's order."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from addenda.core.errors import DataError
from addenda.text.blocks import Block, needs, one_line, table, tidy

#: words, tabs and line breaks as they stand, tracked insertions among them; what was deleted or moved away is not
_PARTS = " | ".join(
    f".//{part}[not(ancestor::w:moveFrom or ancestor::w:txbxContent)]"
    for part in ("w:t", "w:r/w:tab", "w:br", "w:cr", "w:noBreakHyphen")
)
#: how the files begin that Word wrote until 2003, and those that it encrypts
_OLE = b"\xd0\xcf\x11\xe0"


def read(data: bytes) -> Iterator[Block]:
    """The blocks of a Word file; headers, footers, notes and text boxes are left out.

    Raises:
        DataError: it is encrypted or broken, or the package that reads it is not installed.
    """
    if data.startswith(_OLE):
        raise DataError(
            "it is encrypted, or of Word's old format: open it in Word and save it as .docx without a password"
        )
    try:
        import docx
    except ModuleNotFoundError:
        raise needs("python-docx", "Word") from None
    try:
        opened = docx.Document(io.BytesIO(data))
        parts = list(opened.iter_inner_content())
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, SyntaxError) as error:
        raise DataError(f"it is broken, or no Word file ({error or type(error).__name__})") from None
    yield from _blocks(parts)


def _blocks(parts: list[Any]) -> Iterator[Block]:
    items: list[str] = []
    for part in parts:
        line = _item(part)
        if line is not None:
            items.append(line)
            continue
        if items:
            yield Block("\n".join(items))
            items = []
        block = _table(part) if hasattr(part, "rows") else _paragraph(part)
        if block.text:
            yield block
    if items:
        yield Block("\n".join(items))


def _paragraph(part: Any) -> Block:
    level, text = _level(part), tidy(_words(part._p))
    return Block(one_line(text), level) if level else Block(text)


def _item(part: Any) -> str | None:
    """A paragraph as an item of a list; None where it is none."""
    if hasattr(part, "rows") or _level(part):
        return None
    style = (part.style.name or "") if part.style is not None else ""
    numbering: Any = part._p.pPr.numPr if part._p.pPr is not None else None
    if numbering is None and not style.startswith(("List Bullet", "List Number")):
        return None
    words = one_line(_words(part._p))
    depth = 0 if numbering is None or numbering.ilvl is None else numbering.ilvl.val
    return f"{'  ' * depth}- {words}" if words else None


def _level(part: Any) -> int:
    """The level of a heading, by its style or the outline level that its style has; 0: none."""
    style = part.style
    while style is not None:
        name = (style.name or "").lower()
        if name == "title":
            return 1
        if name.startswith("heading ") and name[8:].isdigit():
            return min(6, int(name[8:]))
        outline = style.element.xpath("./w:pPr/w:outlineLvl/@w:val")
        if outline and outline[0].isdigit() and int(outline[0]) < 6:
            return int(outline[0]) + 1
        style = style.base_style
    return 0


def _table(part: Any) -> Block:
    """A table; a cell that spans several is told once."""
    rows: list[list[str]] = []
    for row in part.rows:
        seen: set[Any] = set()
        rows.append([_cell(cell._tc) for cell in row.cells if not (cell._tc in seen or seen.add(cell._tc))])
    return Block(table(rows))


def _words(paragraph: Any) -> str:
    """The words of a paragraph's element, without those of text boxes in it."""
    return "".join(map(_part, paragraph.xpath(_PARTS)))


def _cell(element: Any) -> str:
    return " ".join(map(_words, element.xpath(".//w:p[not(ancestor::w:txbxContent)]")))


def _part(element: Any) -> str:
    kind = element.tag.rpartition("}")[2]
    return {"t": element.text or "", "noBreakHyphen": "-", "tab": "\t"}.get(kind, "\n")
