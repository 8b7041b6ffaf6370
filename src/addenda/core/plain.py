"""Plain data: what was found, as JSON takes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast


class Plain:
    """A dataclass that gives itself, and all in it, as plain data."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(cast("Any", self))
