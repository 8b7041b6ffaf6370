"""What a module was taught: what it answers of what it studied in other words, what else moved, and what that took."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addenda.core.plain import plain_of
from addenda.teaching.gone import ON, Gone
from addenda.telling.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class TeachReport:
    """What `teach` did.

    `right` has by what was asked ("held-out exercises", a team's file) the share answered rightly with the module on, `before`
    with it off, `refused` the share of what the documents do not say. Where a judge was asked, `judged` and `judged_before` have
    what it calls right, and `judges` who it is. `shown` has some: question, answer, what was written with the module off and on,
    whether it counts. `changed` is the share of answers to general chats that are not the bare base's word for word, `after` the
    same as a second turn, `leaked` the share that speak the documents' `words`; `forgot` nats per token on general text. `alone`
    is the share of tokens of general chats that the module leaves exactly alone. `gone` has what became of facts that the
    documents of an update no longer tell.
    """

    name: str
    base: str
    out: Path
    page: Path
    study: dict[str, Any]
    kind: str
    parameters: int
    bytes: int
    tokens: int
    passes: float
    loss: float | None
    right: dict[str, Interval]
    before: dict[str, Interval]
    refused: dict[str, Interval]
    shown: tuple[tuple[str, str, str, str, bool], ...]
    changed: Interval | None
    after: Interval | None
    leaked: Interval | None
    words: tuple[str, ...]
    forgot: Interval | None
    alone: float | None
    seconds: float
    remarks: tuple[str, ...] = ()
    judged: dict[str, Interval] = field(default_factory=dict[str, Interval])
    judged_before: dict[str, Interval] = field(default_factory=dict[str, Interval])
    judges: dict[str, str] = field(default_factory=dict[str, str])
    gone: Gone | None = None

    @property
    def did(self) -> str:
        """What was done, in words that follow the base's name."""
        if self.tokens:
            return f"was taught {self.study['exercises']:,} exercises in {self.tokens:,} tokens"
        return f"reads {', '.join(self.study['documents'])}, and was not trained on it"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {name: plain_of(value) for name, value in vars(self).items()}

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.base} {self.did}, "
            f"{self.seconds / 60:,.0f} minutes in all; {self.kind}, {self.bytes / 1e6:.1f} MB"
        ]
        for on, share in self.right.items():
            lines.append(f"  {on}: {told(share)} answered rightly, {told(self.before[on])} without the module")
        for on, who in self.judges.items():
            shares = [told(by[on]) for by in (self.judged, self.judged_before) if on in by]
            lines.append(
                f"  {on}: {', '.join([*shares[:1], *(f'{one} without the module' for one in shares[1:]), who])}"
            )
        for on, share in self.refused.items():
            lines.append(f"  {on}: {told(share)} of what the documents do not say is refused")
        if self.gone is not None:
            lines += [f"  {asked}: {share}" for asked, share in gone_rows(self.gone)]
        if self.changed is not None and self.after is not None and self.leaked is not None:
            spoken = f" ({', '.join(self.words[:5])})" if self.leaked.value else ""
            lines += [
                f"  general chats answered otherwise: {told(self.changed)}, as a second turn {told(self.after)}",
                f"  general chats that speak the documents' words: {told(self.leaked)}{spoken}",
            ]
        if self.forgot is not None:
            ends = f"[{self.forgot.low:+.4f}, {self.forgot.high:+.4f}]"
            lines.append(f"  general text: {self.forgot.value:+.4f} {ends} nats per token")
        return "\n".join([*lines, *(f"  {remark}" for remark in self.remarks), f"page: {self.page}"])


def gone_rows(gone: Gone) -> list[tuple[str, str]]:
    """What became of facts that are gone, row by row."""
    rows = [
        (f"{ON}, old answer given by the version before", gone.before), (f"{ON}, old answer still given", gone.still),
        (f"{ON}, answered anew", gone.anew), (f"{ON}, refused where nothing is told now", gone.refused),
    ]  # fmt: skip
    return [(asked, told(share)) for asked, share in rows if share is not None]


def told(share: Interval) -> str:
    """A share with its interval, in percent."""
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"
