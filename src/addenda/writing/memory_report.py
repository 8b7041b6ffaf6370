"""The report of what was memorized, and what of it goes into the module's card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from addenda.core.card import Measure
from addenda.writing.curve import Curve
from addenda.writing.report import RunReport


@dataclass(frozen=True)
class Online:
    """How one text was predicted while it was read: each chunk before it was written.

    `curve` has nats by position; `compared` says whether the bare base read it too.
    """

    curve: Curve = field(repr=False)
    on: str
    compared: bool

    @property
    def tokens(self) -> int:
        """Tokens predicted."""
        return int(self.curve.totals()[0])

    @property
    def nats(self) -> float:
        """Mean loss with the memory, nats per token."""
        tokens, nats, _ = self.curve.totals()
        return nats / max(1, tokens)

    @property
    def bare(self) -> float | None:
        """Mean loss of the bare base from the same windows, where it was measured."""
        tokens, _, bare = self.curve.totals()
        return bare / max(1, tokens) if self.compared else None

    def gain(self, start: float = 0.0, end: float = 1.0) -> float | None:
        """Nats per token taken off, over a part of the text: `gain(0.75)` is that of its last quarter."""
        nats, bare = self.curve.between(start, end)
        return bare - nats if self.compared else None

    def measures(self) -> list[Measure]:
        """For the card."""
        measures = [Measure(name="online loss", value=self.nats, n=self.tokens, on=self.on)]
        gain = self.gain()
        return (
            measures
            if gain is None
            else [*measures, Measure(name="online gain", value=gain, n=self.tokens, on=self.on)]
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {"on": self.on, "tokens": self.tokens, "nats": self.nats, "bare": self.bare, "gain": self.gain()}
        return plain | {"gain_last_quarter": self.gain(0.75), "curve": self.curve.points(self.compared)}


@dataclass(frozen=True, kw_only=True)
class MemorizeReport(RunReport):
    """What was memorized.

    `texts` has the online loss by module; `bare_seconds` are those of scoring the same windows with the bare base. `read` counts
    tokens of all passes, of all calls of a resumed run; `ended` says where the reading ended, if not at the end.
    """

    names: tuple[str, ...]
    texts: dict[str, Online]
    bare_seconds: float
    parameters: dict[str, int]
    read: int | None = None
    ended: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens predicted in the first pass, of all texts."""
        return sum(online.tokens for online in self.texts.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return super().as_dict() | {"tokens": self.tokens}

    def __str__(self) -> str:
        read, passes = self.read or self.tokens, self.settings.get("passes", 1)
        speed = read / self.seconds if self.seconds else 0.0
        often = f" ({self.tokens:,} in {passes} passes)" if passes > 1 else ""
        lines = [
            f"{', '.join(self.names)}: {read:,} tokens read and written{often} in {self.seconds:,.0f} s ({speed:,.0f} tokens/s)"
        ]
        if self.bare_seconds >= 1:
            lines[0] += f", and {self.bare_seconds:,.0f} s more to read the text with the bare base for comparison"
        if self.ended is not None:
            lines.append(f"  {self.ended}")
        for name, online in self.texts.items():
            told = f"  {name} on {online.on}: {online.nats:.3f} nats per token while it was read"
            gain, late = online.gain(), online.gain(0.75)
            if gain is not None and late is not None:
                told += f", {online.bare:.3f} without it (gain {gain:+.3f}, over the last quarter {late:+.3f})"
            lines.append(told)
        if self.settings.get("passes", 1) > 1:
            lines.append("  these are of the first pass; what later ones added, evaluate shows")
        elif any(online.tokens <= self.settings.get("chunk", 0) for online in self.texts.values()):
            lines.append(
                "  a text of one chunk is predicted before it is written: evaluate shows what is kept of it; smaller chunks and "
                "more passes keep more"
            )
        return "\n".join([*lines, *self.last_lines()])
