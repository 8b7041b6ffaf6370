"""A store of results by key, in a JSON-lines file that grows: what was paid for once is never done again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addenda.core.errors import FileError
from addenda.core.files import strict_json


def key_of(value: Any) -> str:
    """A hash of plain data."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:32]


class Store:
    """Results by key. What a killed process left half written is cut off when it is opened; the rest is kept.

    Raises:
        FileError: the file cannot be read, or a line that is not its last is damaged; says which.
    """

    def __init__(self, file: Path, again: str = "the same call with resume=True goes on") -> None:
        self.file, self.again = file, again
        self.found: dict[str, dict[str, Any]] = {}
        if file.exists():
            self._read()

    def _read(self) -> None:
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise FileError(f"{self.file} cannot be read ({error.strerror or error})") from None
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                value = strict_json(line)
                self.found[value.pop("key")] = value
            except (ValueError, KeyError, AttributeError, TypeError):
                raise FileError(
                    f"{self.file}, line {number}: is damaged; remove the line, and its part is made anew"
                ) from None
        if whole < len(data):
            os.truncate(self.file, whole)

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.found[key]

    def take(self, other: Store) -> None:
        """Know what another store knows, without writing it down again."""
        self.found = other.found | self.found

    def add(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep results, through to the disk.

        Raises:
            FileError: they cannot be written; what was kept before stays.
        """
        lines = "".join(json.dumps({"key": key, **value}, ensure_ascii=False) + "\n" for key, value in results.items())
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            size = self.file.stat().st_size if self.file.exists() else 0
            try:
                with self.file.open("ab") as file:
                    file.write(lines.encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(self.file, size)
                raise
        except OSError as error:
            raise FileError(
                f"'{self.file}' cannot be written ({error.strerror or error}); what was kept before is there, and {self.again}"
            ) from None
        self.found.update({key: dict(value) for key, value in results.items()})
