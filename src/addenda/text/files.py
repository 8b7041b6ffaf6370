"""Files of text: values with where each one stands, from plain text, JSON lines (also gzipped), parquet and documents."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from addenda.core.card import LICENCE
from addenda.core.errors import DataError
from addenda.core.files import strict_json
from addenda.text import documents

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
#: of documents with headings, each read as one text in Markdown's form
DOCUMENTS = tuple(suffix for suffix in documents.SUFFIXES if suffix not in SUFFIXES)
#: a text file is one document up to this many characters; a longer one is cut at line ends into documents of that size
PIECE = 2**20
_BROKEN = (gzip.BadGzipFile, EOFError, zlib.error)


def read_values(file: Path, field: str) -> Iterator[tuple[str, Any]]:
    """What a file holds, one value after another with the file and line or row of it; of parquet only what is needed.

    Raises:
        DataError: it is broken, and where.
    """
    if file.name.endswith(".parquet"):
        return _parquet(file, field)
    if file.name.lower().endswith(DOCUMENTS):
        return iter([(str(file), documents.read(file).text)])
    return json_lines(file) if ".jsonl" in file.suffixes[-2:] else _plain(file)


def _binary(file: Path) -> Any:
    if file.exists() and not file.is_file():
        raise DataError(f"{file}: is no regular file; a pipe or device would be waited for")
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, plain or .gz, each with the file and line of it.

    Raises:
        DataError: it is broken, and where.
        OSError: it cannot be opened.
    """
    number = 0
    with _binary(file) as handle:
        try:
            for number, line in enumerate(handle, 1):
                where = f"{file}, line {number}"
                if not line.strip():
                    continue
                try:
                    value = strict_json(line.removeprefix(codecs.BOM_UTF8))
                except ValueError as error:
                    raise DataError(f"{where}: not JSON ({error})") from None
                if not isinstance(value, dict):
                    raise DataError(f"{where}: expected a JSON object, got {type(value).__name__}")
                yield where, value
        except _BROKEN as error:
            raise DataError(f"{file}, after line {number}: broken gzip ({error})") from None


def _plain(file: Path) -> Iterator[tuple[str, Any]]:
    line = 1
    with _binary(file) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as handle:
        try:
            while piece := handle.read(PIECE):
                start = line
                if len(piece) == PIECE:
                    piece += handle.readline(PIECE)
                line += piece.count("\n")
                yield f"{file}, line {start}", piece
        except UnicodeDecodeError as error:
            at = line + bytes(error.object[: error.start]).count(b"\n")
            raise DataError(f"{file}, at or after line {at}: not UTF-8 ({error.reason})") from None
        except _BROKEN as error:
            raise DataError(f"{file}, after line {line}: broken gzip ({error})") from None


def _parquet(file: Path, field: str) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            wanted = [n for n in (field, "messages", "prompt", "completion", "tools", "reads") if n in names]
            wanted = wanted + [n for n in LICENCE if n in names and n not in wanted] if wanted else names
            number = 0
            for batch in table.iter_batches(batch_size=256, columns=wanted):
                for value in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", own_fields(value)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{file}: broken parquet ({error})") from None


def own_fields(value: Any) -> Any:
    """A record of a table without the fields, at any depth, that others have: a table says None where one has none."""
    if isinstance(value, Mapping):
        return {key: own_fields(part) for key, part in value.items() if part is not None}
    return [own_fields(part) for part in value] if isinstance(value, list) else value
