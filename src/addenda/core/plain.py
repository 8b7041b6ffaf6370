"""Plain data: what was found, as JSON takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast


class Plain:
    """A dataclass that gives itself, and all in it, as plain data."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(cast("Any", self))


def plain_of(value: Any) -> Any:
    """A value as JSON has it: mappings, lists and tuples part by part, paths as text, and what gives itself as plain data."""
    if isinstance(value, Mapping):
        return {name: plain_of(part) for name, part in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain_of(part) for part in cast("Sequence[Any]", value)]
    return value.as_dict() if hasattr(value, "as_dict") else value
