"""Documents: files of text, Markdown, HTML, Word or PDF as headings and passages; what cannot be read is told in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addenda.core.errors import DataError, meant
from addenda.text.blocks import Block
from addenda.text.formats import html, markdown, pdf, plain, word

#: what each ending means: how its bytes are read
_READERS: dict[str, Callable[[bytes], Iterator[Block]]] = {
    **dict.fromkeys((".txt", ".text"), lambda data: plain.read(decoded(data))),
    **dict.fromkeys((".md", ".markdown"), lambda data: markdown.read(decoded(data))),
    **dict.fromkeys((".html", ".htm", ".xhtml"), html.read),
    ".docx": word.read,
    ".pdf": pdf.read,
}  # fmt: skip
#: endings of files that are read as documents
SUFFIXES = tuple(_READERS)
#: what to do with files that look like documents and are not read
_INSTEAD = {
    ".doc": "save it as .docx", ".odt": "save it as .docx", ".rtf": "save it as .docx", ".pages": "save it as .docx",
    ".pptx": "save it as PDF", ".xlsx": "save it as HTML", ".epub": "save it as HTML", ".rst": "save it as Markdown or HTML",
    ".gz": "unpack it",
}  # fmt: skip
#: of the letters of a text in one of the West European encodings at most this share lies outside ASCII
FOREIGN = 0.3


@dataclass(frozen=True)
class ReadDocument:
    """What a document says: its blocks in order, under the name that its chunks are called by."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """All of it as one text, in Markdown's form."""
        return "\n\n".join("#" * block.level + " " * bool(block.level) + block.text for block in self.blocks)


def documents(source: Any) -> list[ReadDocument]:
    """Read documents.

    Args:
        source: a file (.txt, .md, .html, .docx, .pdf), a folder of them, or a list of files, folders and documents that were read
            already; or texts in Markdown by name: `{"rules.md": "# Fees"}`. Word, PDF and HTML need the packages of
            `addenda[documents]`.

    Raises:
        DataError: one is not there, of another kind, empty, broken, encrypted, or without text; names it. Or there is none.
    """
    if isinstance(source, Mapping):
        found = [_checked(str(name), lambda text=text: markdown.read(str(text))) for name, text in source.items()]
    else:
        parts = [source] if isinstance(source, str | Path | ReadDocument) else source
        if not isinstance(parts, Iterable) or isinstance(parts, bytes):
            raise DataError(f"documents are files, or texts by name; got {type(source).__name__}")
        given = list(parts)
        files = [file for part in given if not isinstance(part, ReadDocument) for file in _files(part)]
        names = _names(files)
        ready = {part.name for part in given if isinstance(part, ReadDocument)}
        found = [part for part in given if isinstance(part, ReadDocument)]
        found += [read(file, names[file]) for file in dict.fromkeys(files)]
        twice = next((name for name in names.values() if name in ready), None)
        if twice is not None:
            raise DataError(f"two documents are called '{twice}'")
    if not found:
        raise DataError("there is no document: give files, or a folder of them")
    return found


def read(file: Path, name: str | None = None) -> ReadDocument:
    """Read one file as a document.

    Raises:
        DataError: as `documents`.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        instead = _INSTEAD.get(file.suffix.lower())
        raise DataError(
            f"{file}: documents are {', '.join(SUFFIXES)} files, and this is none" + (f"; {instead}" if instead else "")
        )
    if not file.is_file():
        raise DataError(f"{file}: is no regular file; a pipe or device would be waited for")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    if not data.strip():
        raise DataError(f"{file}: is empty")
    return _checked(name or file.name, lambda: reader(data), str(file))


def _checked(name: str, blocks: Callable[[], Iterator[Block]], where: str | None = None) -> ReadDocument:
    try:
        document = ReadDocument(name, tuple(blocks()))
    except DataError as error:
        raise DataError(f"{where or name}: {error}") from None
    except RecursionError:
        raise DataError(f"{where or name}: it is nested too deep to be read") from None
    if not any(not block.level for block in document.blocks):
        raise DataError(f"{where or name}: there is no text in it" + (" but headings" if document.blocks else ""))
    return document


def _files(source: Any) -> list[Path]:
    """A file, or those of a folder that are documents, by name."""
    try:
        path = Path(source).expanduser()
        there = path.exists()
    except (TypeError, OSError, ValueError, RuntimeError):
        raise DataError(f"a document is a file; got {str(source)[:80]!r}") from None
    if not there:
        raise DataError(f"there is no file or folder '{source}'{meant(path)}")
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in _READERS
        and file.is_file()
        and not any(part.startswith((".", "~$")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise DataError(f"the folder {path} holds no document ({', '.join(SUFFIXES)})")
    return files


def _names(files: list[Path]) -> dict[Path, str]:
    """What each file is called: its name, and below their common folder where two have one name."""
    short = [file.name for file in dict.fromkeys(files)]
    if len(set(short)) == len(short):
        return {file: file.name for file in files}
    whole = {file: file.resolve() for file in files}
    common = os.path.commonpath([file.parent for file in whole.values()])
    return {file: place.relative_to(common).as_posix() for file, place in whole.items()}


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 where its first bytes say so, else the West European encoding of Windows.

    Raises:
        DataError: it is no text, or in another encoding.
    """
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = data.decode("utf-16")
        else:
            text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        letters = sum(map(str.isalpha, text))
        outside = sum(letter.isalpha() and not letter.isascii() for letter in text)
        if b"\0" in data or "\ufffd" in text or outside > FOREIGN * letters:
            raise DataError("it is no text, or neither in UTF-8 nor in Latin-1: save it as UTF-8") from None
    if "\0" in text:
        raise DataError("it is no text: it holds zero bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")
