"""A comparison: its rows, the sweeps behind them, and what all had in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from addenda.comparing.composition import Composed
from addenda.comparing.rows import Failed, Row
from addenda.comparing.work import plain
from addenda.measuring.asking.judge import Judged


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison, the sweep behind each chosen rate, and what all had in common; `page` shows it.

    `sweeps` has, by method, the loss of each rate at its last rung, infinite (in JSON null) where it failed; `edges` says of
    which method the chosen rate is the "lowest" or "highest" tried, so that one beyond it may do better. `failed` has what could
    not be measured. `apart` says whether unrelated text was given: where not, it is that of forgetting. `remarks` say what makes
    a figure mean less than it seems to; `data` what texts, precision and device are known by. `judged` has what a judge said of
    the answers of each method's runs ("lora 0"), where one was asked.
    """

    base: str
    rows: tuple[Row, ...]
    sweeps: dict[str, dict[str, float]]
    composed: tuple[Composed, ...]
    facts: dict[str, str]
    settings: dict[str, Any]
    out: Path
    edges: dict[str, str] = field(default_factory=dict)
    failed: tuple[Failed, ...] = ()
    apart: bool = True
    remarks: tuple[str, ...] = ()
    data: dict[str, str] = field(default_factory=dict)
    judged: Judged | None = None

    @property
    def page(self) -> Path:
        """The report to look at."""
        return self.out / "report.html"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: a number that is not finite is None."""
        return plain(asdict(self) | {"page": self.page})
