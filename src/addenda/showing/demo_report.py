"""The report of a demo: what was measured of each column, what was proved, and what was written after each prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addenda.core.card import Card
from addenda.measuring.looking.activity import Activity
from addenda.showing.columns import Column
from addenda.showing.replies import Reply
from addenda.showing.scenes import Scene
from addenda.writing.report import TrainReport


@dataclass(frozen=True)
class Check:
    """Something that must hold, and whether it did."""

    passed: bool
    text: str


@dataclass(frozen=True)
class DemoReport:
    """What the demo did, measured and proved; `page` is the report to look at.

    `columns` are the base, the LoRA, the module on and the module off. `bands` are (name, tokens) of the parts of the passage on
    which `seen` shows the gate; `short` says at how many of the shipped short prompts, of all, it ends up open.
    """

    scene: Scene
    base: str
    columns: tuple[Column, ...]
    checks: tuple[Check, ...]
    replies: tuple[Reply, ...]
    cards: dict[str, Card]
    runs: dict[str, TrainReport] = field(repr=False)
    seen: Activity = field(repr=False)
    bands: tuple[tuple[str, int], ...] = field(repr=False)
    short: dict[str, tuple[int, int]]
    facts: dict[str, str]
    seconds: float
    page: Path
    modules: dict[str, Path]

    @property
    def bare(self) -> Column:
        """The base's column."""
        return self.columns[0]

    @property
    def rival(self) -> Column:
        """The LoRA's column."""
        return self.columns[1]

    @property
    def module(self) -> Column:
        """The module's column, switched on."""
        return self.columns[2]

    @property
    def failed(self) -> list[str]:
        """What did not hold."""
        return [check.text for check in self.checks if not check.passed]

    def same(self, column: str, *, on_subject: bool) -> tuple[int, int]:
        """How many replies of a column are the base's word for word, of how many, to prompts on the subject or off it."""
        mine = [reply for reply in self.replies if reply.on_subject == on_subject]
        return sum(reply.same(column) for reply in mine), len(mine)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "base": self.base,
            "subject": self.scene.subject,
            "columns": [column.as_dict() for column in self.columns],
            "checks": [{"passed": check.passed, "check": check.text} for check in self.checks],
            "replies": [reply.as_dict() for reply in self.replies],
            "gate": self.seen.as_dict(),
            "short prompts": {sort: {"open": live, "of": count} for sort, (live, count) in self.short.items()},
            "facts": self.facts,
            "seconds": self.seconds,
            "page": str(self.page),
            "modules": {name: str(folder) for name, folder in self.modules.items()},
        }
