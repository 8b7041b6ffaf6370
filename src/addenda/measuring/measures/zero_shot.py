"""Zero-shot questions that come with the package: right answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from addenda.core import card
from addenda.measuring.asking.zero_shot import OnSet, ZeroShot, zero_shot
from addenda.measuring.conducting.foretold import QUESTION
from addenda.measuring.conducting.lines import on_card, share, times
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option
from addenda.tiny.asked import EACH, SETS


@dataclass(frozen=True)
class InZeroShot(Measure):
    """Zero-shot questions that come with the package: right answers of each set by its usual metric, and of all."""

    name: ClassVar[str] = "zero_shot"
    place: ClassVar[int] = 80
    in_words: ClassVar[bool] = True

    zero_shot: bool = option("Zero-shot questions that come along, 400 of four sets: right answers.", "switch")
    limit: int | None = limit()

    def open(self, acting: Acting) -> Opened:
        return Opened(None)

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        yield Reading(
            "zero-shot questions", times(acting.weights) * 2 * QUESTION * len(SETS) * min(self.limit or EACH, EACH)
        )

    def run(self, acting: Acting, opened: Opened) -> ZeroShot:
        return zero_shot(acting.base, acting.weights, each=self.limit)

    def record(self, found: ZeroShot, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        for row in _usual(found):
            metric = "zero-shot" if row is found.pooled else f"zero-shot {row.metric}"
            if row.on is not None:
                yield from on_card(metric, row.on, row.name, row.off)
                yield from on_card(f"{metric} added", row.change, row.name)

    def rows(self, found: ZeroShot, base: str, label: str) -> Iterator[Table]:
        on = found.pooled.on is not None
        rows = [
            [row.name, row.metric, f"{row.questions:,}", f"{row.chance:.0%}", share(row.off),
             *([share(row.on), share(row.change, "+")] if on else [])]
            for row in _usual(found)
        ]  # fmt: skip
        yield Table(
            "Zero-shot questions answered rightly [95% interval over questions]",
            ["set", "metric", "questions", "chance", "base", *([f"with {label}", "change"] if on else [])],
            rows,
        )


def _usual(found: ZeroShot) -> list[OnSet]:
    return [*(row for row in found.sets if row.usual), found.pooled]
