"""Edits: how many took, in other words too, and what else they moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from addenda.core import card
from addenda.measuring.asking.edits import EditScores, load_edits, score_edits
from addenda.measuring.conducting.foretold import QUESTION
from addenda.measuring.conducting.lines import file_name, on_card, share, times
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option


@dataclass(frozen=True)
class Edited(Measure):
    """Edits of facts: how many took, in other words too, and whether the choice about others stays."""

    name: ClassVar[str] = "edits"
    place: ClassVar[int] = 50
    in_words: ClassVar[bool] = True

    edits: str | Path | None = option(
        "A file of edits, or known, those of ADDENDA_DATA: reliability, generality, locality."
    )
    limit: int | None = limit()

    def open(self, acting: Acting) -> Opened:
        given = None if self.edits == "known" else self.edits
        return Opened(load_edits(given, limit=self.limit), sources=file_name({"edits": self.edits}))

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        yield Reading("edits", 3 * times(acting.weights) * QUESTION * len(opened.inputs))

    def run(self, acting: Acting, opened: Opened) -> EditScores:
        return score_edits(acting.base, opened.inputs, acting.weights)

    def record(self, found: EditScores, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        edits = sources.get("edits", "edits")
        yield from on_card("edits, reliability", found.reliability, edits, found.reliability_before)
        yield from on_card("edits, generality", found.generality, edits, found.generality_before)
        yield from on_card("edits, locality", found.locality, edits)

    def rows(self, found: EditScores, base: str, label: str) -> Iterator[Table]:
        on = found.reliability is not None
        rows = (
            ("reliability: the new answer is likelier", share(found.reliability_before), share(found.reliability)),
            ("generality: in other words too", share(found.generality_before), share(found.generality)),
            ("locality: the same choice about others", "-", share(found.locality)),
        )
        columns = ["", "base", *([f"with {label}"] if on else [])]
        title = f"{found.edits:,} edits [95% interval over edits]"
        yield Table(title, columns, [row if on else row[:2] for row in rows])
