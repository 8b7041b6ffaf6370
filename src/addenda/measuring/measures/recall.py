"""Recall of facts, closed-book, and whether answers about others stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from addenda.core import card
from addenda.measuring.asking.facts import Facts, opened_facts
from addenda.measuring.asking.recall import UNTOLD, Recall, recall
from addenda.measuring.conducting.foretold import CHARACTERS
from addenda.measuring.conducting.lines import file_name, on_card, share, times
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option
from addenda.telling.intervals import Interval


@dataclass(frozen=True)
class Recalled(Measure):
    """Closed-book recall of facts, written and chosen, and whether answers about people that no text tells of stay."""

    name: ClassVar[str] = "recall"
    place: ClassVar[int] = 30
    in_words: ClassVar[bool] = True

    facts: Facts | str | Path | None = option("A file of `addenda facts`: closed-book recall and locality.", "file")
    limit: int | None = limit()

    def open(self, acting: Acting) -> Opened:
        return Opened(opened_facts(self.facts), sources=file_name({"facts": self.facts}))

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        each = [
            len(fact.answer) + sum(map(len, fact.others)) + len(fact.prompt) * (1 + len(fact.others))
            for fact in opened.inputs.told[: self.limit]
        ]
        yield Reading("facts", times(acting.weights) * sum(each) // CHARACTERS)

    def run(self, acting: Acting, opened: Opened) -> Recall:
        return recall(acting.base, opened.inputs, acting.weights, questions=self.limit)

    def moved(self, found: Recall) -> dict[str, Interval]:
        return {} if found.kept is None else {UNTOLD: found.kept}

    def record(self, found: Recall, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        facts = sources.get("facts", "facts")
        yield from on_card("recall, chosen", found.chosen_after, facts, found.chosen_before)
        yield from on_card("recall, chosen, added", found.gain, facts)
        yield from on_card("recall, word for word", found.exact_after, facts, found.exact_before)
        yield from on_card(UNTOLD, found.kept, facts)
        if found.gain is not None and found.per_megabyte is not None:
            each = found.told / found.megabytes
            many = Interval(found.per_megabyte, found.gain.low * each, found.gain.high * each, found.gain.n)
            yield from on_card("facts more per megabyte", many, facts, unit="facts per 10^6 bytes")

    def rows(self, found: Recall, base: str, label: str) -> Iterator[Table]:
        on = found.gain is not None
        rows = [
            (
                f"true answer likeliest (chance {found.chance:.0%})",
                share(found.chosen_before),
                share(found.chosen_after),
            ),
            ("written word for word", share(found.exact_before), share(found.exact_after)),
        ]
        if found.gain is not None and found.per_megabyte is not None:
            many = f"{found.per_megabyte:+.1f} ({found.megabytes:.2f} MB)"
            rows += [
                ("change, paired", "-", share(found.gain)),
                ("same choice about people no text tells of", "-", share(found.kept)),
                ("facts more for each MB of modules", "-", many),
            ]
        of = "" if found.facts == found.told else f" of {found.told:,}"
        yield Table(
            f"Closed-book recall of {found.facts:,}{of} facts [95% interval over people]",
            ["", "base", *([f"with {label}"] if on else [])],
            [row if on else row[:2] for row in rows],
        )
