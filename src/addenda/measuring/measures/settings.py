"""Three settings: the same questions from parameters alone, from an old snapshot, and from today's texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from addenda.core import card
from addenda.core.errors import AddendaError
from addenda.measuring.asking.certificate import check_idle
from addenda.measuring.asking.facts import Facts, opened_facts
from addenda.measuring.asking.three_settings import ThreeSettings, three_settings
from addenda.measuring.conducting.foretold import QUESTION
from addenda.measuring.conducting.lines import file_name, on_card, share
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option

#: what each setting is, in words
TOLD = {
    "closed": "closed: parameters alone", "offline": "offline: passages of the snapshot",
    "online": "online: passages of the current texts", "oracle": "oracle: the very text in the window",
}  # fmt: skip


@dataclass(frozen=True)
class InThreeSettings(Measure):
    """The questions of `facts` from parameters alone, with passages of an old snapshot, and with those of today's texts.

    Source: "Memory in LLMs: Mechanisms, Evaluation, Evolution" (2025), the three-setting protocol and its certificate.
    """

    name: ClassVar[str] = "settings"
    place: ClassVar[int] = 40
    in_words: ClassVar[bool] = True

    snapshot: Facts | str | Path | None = option(
        "The facts at an earlier time: asked closed-book and with retrieval from either.", "file"
    )
    facts: Facts | str | Path | None = None
    limit: int | None = limit()

    def open(self, acting: Acting) -> Opened:
        if self.facts is None:
            raise AddendaError("a snapshot is of facts at an earlier time: name the facts of today too")
        if find_spec("bm25s") is None:
            raise AddendaError("the snapshot is retrieved from, which needs bm25s: pip install bm25s")
        check_idle(acting.base)
        files = {"facts": self.facts, "snapshot": self.snapshot}
        return Opened([opened_facts(given) for given in files.values()], sources=file_name(files))

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        yield Reading("facts in three settings", 8 * QUESTION * len(opened.inputs[0].told[: self.limit]))

    def run(self, acting: Acting, opened: Opened) -> ThreeSettings:
        facts, snapshot = opened.inputs
        return three_settings(
            acting.base, facts, acting.weights, snapshot=snapshot, questions=self.limit, regression=dict(acting.moved)
        )

    def files(self, found: ThreeSettings) -> dict[str, Callable[[Path], None]]:
        return {"certificate.json": found.certificate.save}

    def record(self, found: ThreeSettings, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        facts = sources.get("facts", "facts")
        for name, of_setting in found.shares.items():
            yield from on_card(f"three settings, {name}", of_setting, facts)
        for change in found.changes:
            yield from on_card(f"three settings, {change.second} less {change.first}", change.difference, facts)
        if found.reliance is not None:
            name = "three settings, closed / oracle"
            yield card.Measure(name=name, value=found.reliance, unit="ratio", n=found.questions, on=facts)
        yield from on_card("three settings, offline says what was true then", found.stale, facts)

    def rows(self, found: ThreeSettings, base: str, label: str) -> Iterator[Table]:
        rows = [(TOLD[name], share(interval)) for name, interval in found.shares.items()]
        rows += [
            (f"{change.second} less {change.first}", f"{share(change.difference, '+')}, p {change.p:.3g} (Holm)")
            for change in found.changes
        ]
        if found.stale is not None:
            rows.append(("of what changed since: offline says what was true then", share(found.stale)))
        holds = "yes" if found.certificate.rollback["holds"] else "NO"
        rows.append(("everything unplugged: the base is what it was, bit for bit", holds))
        title = f"{found.questions:,} questions in three settings, chance {found.chance:.0%} [95% interval over people]"
        yield Table(title, ["setting", "true answer likeliest"], rows)
