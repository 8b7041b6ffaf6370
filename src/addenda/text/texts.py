"""Texts: one re-iterable stream of records from files, folders, data sets or lists, never all in memory.

Knows nothing of models or tokens. Every record is a dict with one of the fields `text`, `messages`, or `prompt` and
`completion`; what cannot be read ends in a DataError that names the file and the line.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from addenda.core.card import LICENCE, DataRecord, joined_licences, stated_licence
from addenda.core.errors import DataError, meant
from addenda.core.files import sha256_of
from addenda.text.files import DOCUMENTS, SUFFIXES, own_fields, read_values
from addenda.text.records import check_unicode, messages_of, part_of, reads_of, tools_of
from addenda.tiny import SAMPLES, sample


class Record(dict[str, Any]):
    """A record of a text; `where` says where it stands (a file and a line, mostly), for errors found later."""

    where: str | None = None


#: records that tell a stream from another where nothing else does
HEAD = 16
#: files of a folder whose hashes a card keeps
FILES = 1000
_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.+-]+){0,2}")


class Texts(ABC):
    """A re-iterable stream of records, with a name that is safe to publish."""

    name: str = "texts"

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in order; the same each time."""
        for where, value in self._values():
            record = self._record(where, value)
            if record is not None:
                located = Record(record)
                located.where = where
                yield located

    @abstractmethod
    def _values(self) -> Iterator[tuple[str, Any]]:
        """Raw records with a phrase that says where each stands."""

    @abstractmethod
    def sha256(self) -> str | None:
        """Hash of the files' bytes, or of the texts in order; None for a stream without a known end."""

    def fingerprint(self) -> str | None:
        """What equal sources have in common, known without reading a stream; None where nothing is known."""
        return self.sha256()

    def reads(self, other: Texts) -> bool:
        """Whether both read one and the same object."""
        return self is other

    def identity(self) -> str:
        """What a resumed run must find again: the fingerprint, or else a hash of the first records."""
        return self.fingerprint() or f"begins with {_sha_of_records(islice(self, HEAD))}"

    @property
    def endless(self) -> bool:
        """Whether counting the documents could take for ever."""
        return False

    @property
    def continuous(self) -> bool:
        """Whether its records are pieces of one text."""
        return False

    def count(self) -> int | None:
        """Number of documents, found by reading all of them once; None for a stream."""
        return None if self.endless else sum(1 for _ in self)

    def places(self) -> list[str]:
        """The names of the files that are read, in order, below their folder; none where it is not one of files."""
        return []

    def file_hashes(self) -> list[str] | None:
        """The hashes of the files of a folder, in order; None where it is none, or has more than `FILES`."""
        return None

    def record(self, role: Any, licence: str | None = None) -> DataRecord:
        """What the card keeps of this source; the licence is the one its records state, unless another is given."""
        documents, stated = self._survey()
        return DataRecord(
            name=self.name, role=role, sha256=self.sha256(), documents=documents, licence=licence or stated,
            files=self.file_hashes(),
        )  # fmt: skip

    def _survey(self) -> tuple[int | None, str | None]:
        """Number of documents and their licences, from one reading; None and None for a stream."""
        if self.endless:
            return None, None
        count, licences = 0, set[str | None]()
        for where, value in self._values():
            if self._record(where, value) is not None:
                count += 1
                licences.add(stated_licence(value))
        return count, joined_licences(licences)

    field: str = "text"

    def _record(self, where: str, value: Any) -> dict[str, Any] | None:
        if isinstance(value, str):
            value = {self.field: value}
        if not isinstance(value, Mapping):
            raise DataError(f"{where}: expected a text or a mapping, got {type(value).__name__}")
        others = value.get("messages") is not None or value.get("prompt") is not None
        if self.field in value and not (value[self.field] is None and others):
            text = value[self.field]
            if not isinstance(text, str):
                raise DataError(f"{where}: field '{self.field}' holds {type(text).__name__}, not text")
            check_unicode(where, text)
            return {"text": text} | reads_of(where, value) if text.strip() else None
        beside = tools_of(where, value) | reads_of(where, value)
        if "messages" in value and not (value["messages"] is None and others):
            return {"messages": messages_of(where, value["messages"])} | beside
        if "prompt" in value and "completion" in value:
            return {part: part_of(where, part, value[part]) for part in ("prompt", "completion")} | beside
        if "fact" in value and "part" in value:
            return None  # a question of a file of facts, whose texts are a corpus
        fields = ", ".join(map(str, value)) or "none"
        raise DataError(
            f"{where}: no field '{self.field}' (nor 'messages', nor 'prompt' with 'completion'); fields found: {fields}"
        )


def texts(source: Any, *, name: str | None = None, field: str = "text") -> Texts:
    """A re-iterable stream of records, read as it is needed.

    Args:
        source: the path of a `.txt`, `.jsonl` (both also with `.gz`) or `.parquet` file, or of a folder of those; of a document
            (`.md`, `.html`, `.docx`, `.pdf`), or of a folder that holds such alone; a hub data set `owner/name`,
            `owner/name:split` or `owner/name:config:split`, streamed; the name of a sample that comes with the package
            (`pubmed_train`); a `datasets` Dataset or IterableDataset; or a list of strings or dicts. A record has the field
            `text`, or `messages` (dicts with `role` and `content`), or `prompt` and `completion`, the last two also with
            `tools` (JSON schemas), all with `reads` (what a teacher alone reads). A text file is one document (a new one begins
            after a million characters).
        name: what cards and reports call it; by default the file's or data set's own name, or "texts".
        field: the field that holds running text.

    Raises:
        DataError: there is no such file, or the source is of no known form. What is wrong inside a source is raised,
            with file and line, when it is read.
    """
    opened = source if isinstance(source, Texts) else _open(source)
    if not isinstance(source, Texts):
        opened.field = field
    if name is not None:
        opened.name = name
    return opened


def _open(source: Any) -> Texts:
    if isinstance(source, str) and not source.strip():
        raise DataError("the name of a text is empty; to give a text itself, put it in a list")
    if isinstance(source, str | Path):
        path = Path(source)
        if exists(path):
            return _Files(path)
        if source in SAMPLES:
            return _Files(sample(str(source)))
        looks_like_file = (
            isinstance(source, Path)
            or str(source).endswith((*SUFFIXES, *DOCUMENTS))
            or str(source).startswith(("/", "."))
        )
        if looks_like_file or not _HUB.fullmatch(str(source)):
            hint = "" if looks_like_file else "; to give a text itself, put it in a list"
            raise DataError(f"no file, folder or data set is called '{str(source)[:200]}'{meant(source) or hint}")
        near = get_close_matches(str(source), SAMPLES, n=1, cutoff=0.85)
        if near:  # else the hub is asked for minutes
            raise DataError(f"no file or folder is called '{source}'; did you mean the sample '{near[0]}'?")
        if path.parent.is_dir() and (beside := meant(source)):
            raise DataError(f"no file or folder is called '{source}'{beside}")
        return _Hub(str(source))
    if isinstance(source, Mapping):
        if all(isinstance(part, str) for part in source) and {"text", "messages", "prompt"} & source.keys():
            raise DataError("a record alone is no source; put it in a list")
        raise DataError(f"choose one of the splits {', '.join(map(str, source))}: pass source['...']")
    if isinstance(source, Iterator):
        raise DataError("a generator can be read only once; pass a list, a file or a data set")
    if isinstance(source, list | tuple):
        return _Listed(source)
    if isinstance(source, Iterable):
        return _Streamed(source)
    raise DataError(f"texts come from a path, a hub name, a data set or a list; got {type(source).__name__}")


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False too for what can be no path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte: a text, not a path
        return False


class _Files(Texts):
    """A file, or every readable file of a folder in the order of their names."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.resolve().name
        self._sha: str | None = None
        self._sums: list[tuple[str, str]] = []

    def places(self) -> list[str]:
        """The files below their folder."""
        return [p.relative_to(self.path).as_posix() if p != self.path else p.name for p in self.files()]

    def file_hashes(self) -> list[str] | None:
        """The hashes of a folder's files."""
        self.sha256()
        return [digest for _, digest in self._sums] if self.path.is_dir() and len(self._sums) <= FILES else None

    def files(self) -> list[Path]:
        """The files read, in order.

        Raises:
            DataError: the suffix is unknown, or the folder holds nothing readable.
        """
        if not self.path.is_dir():
            if not self.path.name.lower().endswith((*SUFFIXES, *DOCUMENTS)):
                raise DataError(f"{self.path}: unknown kind of file; readable are {', '.join((*SUFFIXES, *DOCUMENTS))}")
            return [self.path]
        files = self._inside(SUFFIXES) or self._inside(DOCUMENTS)  # beside data, a README is none
        if not files:
            raise DataError(f"folder {self.path} holds no {', '.join((*SUFFIXES, *DOCUMENTS))} file")
        return files

    def _inside(self, suffixes: tuple[str, ...]) -> list[Path]:
        """The files of the folder with some endings, hidden ones left out."""
        return [
            p
            for p in sorted(self.path.rglob("*"))
            if p.name.lower().endswith(suffixes)
            and p.is_file()
            and not any(part.startswith(".") for part in p.relative_to(self.path).parts)
        ]

    @property
    def continuous(self) -> bool:
        """True for a single file of running text."""
        return not self.path.is_dir() and self.path.name.lower().endswith((".txt", ".txt.gz", *DOCUMENTS))

    def sha256(self) -> str:
        """Hash of the file's bytes; for a folder, of its files' names and hashes."""
        if self._sha is None:
            try:
                sums = [(p.relative_to(self.path).as_posix(), sha256_of(p)) for p in self.files()]
            except OSError as error:
                raise DataError(f"{error.filename or self.path}: cannot be read ({error.strerror or error})") from None
            self._sums = sums
            whole = sums[0][1] if not self.path.is_dir() else None
            self._sha = whole or hashlib.sha256(json.dumps(sums).encode()).hexdigest()
        return self._sha

    def _values(self) -> Iterator[tuple[str, Any]]:
        for file in self.files():
            try:
                yield from read_values(file, self.field)
            except DataError:
                raise
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None


class _Listed(Texts):
    """Strings or dicts in memory."""

    def __init__(self, values: list[Any] | tuple[Any, ...]) -> None:
        self.values = values

    def _values(self) -> Iterator[tuple[str, Any]]:
        return ((f"text {number}", value) for number, value in enumerate(self.values, 1))

    def sha256(self) -> str:
        """Hash of the records in order."""
        return _sha_of_records(self)


class _Streamed(Texts):
    """A `datasets` object, or anything that can be iterated again and again."""

    def __init__(self, values: Iterable[Any], name: str | None = None) -> None:
        self.values = values
        own = getattr(getattr(values, "info", None), "dataset_name", None)
        self.name = name or own or "texts"

    @property
    def endless(self) -> bool:
        """True unless the source says its length."""
        return not _sized(self.values)

    def count(self) -> int | None:
        """The length that the source states."""
        return len(self.values) if _sized(self.values) else None  # type: ignore[arg-type]

    def reads(self, other: Texts) -> bool:
        """Whether both read one and the same object."""
        return isinstance(other, _Streamed) and other.values is self.values

    def sha256(self) -> None:
        """None: hashing would read it whole."""
        return

    def fingerprint(self) -> str | None:
        """The fingerprint that a `datasets.Dataset` keeps of itself, with its length."""
        own = getattr(self.values, "_fingerprint", None)
        return f"data set {own}, {self.count()} records" if isinstance(own, str) else None

    def _survey(self) -> tuple[int | None, str | None]:
        """The length that the source states, and the licences in a data set's own column."""
        columns: Any = getattr(self.values, "column_names", None) or ()
        unique: Any = getattr(self.values, "unique", None)
        column = next((name for name in LICENCE if name in columns), None)
        if column is None or not callable(unique):
            return self.count(), None
        values: Iterable[Any] = unique(column)  # type: ignore[assignment]
        return self.count(), joined_licences({stated_licence({column: value}) for value in values})

    def _values(self) -> Iterator[tuple[str, Any]]:
        table = hasattr(self.values, "features")
        return (
            (f"{self.name}, record {number}", own_fields(value) if table else value)
            for number, value in enumerate(self.values, 1)
        )


def _sized(values: Any) -> bool:
    try:
        return len(values) >= 0
    except TypeError:
        return False


class _Hub(_Streamed):
    """A data set on the hub, streamed: `owner/name[:config][:split]`; the split is "train" unless named."""

    def __init__(self, name: str) -> None:
        self.name_on_hub = name
        path, *rest = name.split(":")
        config, split = (rest[0], rest[1]) if len(rest) == 2 else (None, rest[0] if rest else "train")
        try:
            import datasets

            values = datasets.load_dataset(path, config, split=split, streaming=True)
        except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds; all mean "not to be had"
            raise DataError(
                f"no file or folder, and no data set on the hub, can be read as '{name}': {error}"
            ) from None
        super().__init__(values, name)

    def fingerprint(self) -> str:
        """Its name: what lies under it on the hub is taken to stay."""
        return f"hub {self.name_on_hub}"


def _sha_of_records(records: Iterable[Record]) -> str:
    total = hashlib.sha256()
    for record in records:
        total.update(json.dumps(record, sort_keys=True).encode() + b"\n")
    return total.hexdigest()
