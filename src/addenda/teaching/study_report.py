"""What a study made: how many exercises of each kind, what was left out and why, with samples to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addenda.core.plain import plain_of

#: why exercises are left out, in the order in which they are looked at, and in words
FILTERS = {
    "subject": "the question names nothing of its chunk",
    "held out": "it asks what is held out",
    "repeat": "it nearly repeats another",
    "gain": "the chunk in the window does not make the answer likelier",
    "too long": "it does not fit the base's window with its chunk",
}
#: samples of each kind and of each filter that the report has
SAMPLES = 3
#: characters of a sample that are printed
SHOWN = 110


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a study made of documents.

    `kinds` has how many exercises of each kind there are, `dropped` how many were left out by each filter (see `FILTERS`),
    `samples` some of each to read: kind or filter to (question, answer). `margin` is the gain that had to be passed, in nats per
    token, from `pairs` mismatched pairs. `reading` tells of how many questions the teacher gave the answer with its text in front
    of it.
    """

    out: Path
    base: str
    documents: dict[str, int]
    chunks: int
    made: int
    kinds: dict[str, int]
    dropped: dict[str, int]
    samples: dict[str, list[tuple[str, str]]]
    margin: float | None
    pairs: int
    teacher: str | None
    asked: int
    unusable: int
    reading: dict[str, Any] | None
    tokens: int
    seconds: float
    seed: int
    remarks: tuple[str, ...] = ()

    @property
    def exercises(self) -> int:
        """In the set, a team's own among them."""
        return sum(self.kinds.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {name: plain_of(value) for name, value in vars(self).items()} | {"exercises": self.exercises}

    @classmethod
    def of(cls, plain: Mapping[str, Any], out: Path) -> StudyReport:
        """A report as it was written down."""
        kept = {name: plain[name] for name in cls.__dataclass_fields__ if name != "out"}
        samples = {name: [(one[0], one[1]) for one in some] for name, some in kept["samples"].items()}
        return cls(**(kept | {"out": out, "samples": samples, "remarks": tuple(kept["remarks"])}))

    def __str__(self) -> str:
        several = f"{len(self.documents)} documents" if len(self.documents) > 1 else next(iter(self.documents), "")
        lines = [
            f"{several}: {self.exercises:,} exercises from {self.chunks:,} chunks ({self.seconds:,.0f} s) in {self.out}"
        ]
        for kind, count in sorted(self.kinds.items(), key=lambda one: (-one[1], one[0])):
            lines.append(f"  {count:6,} {kind}{_sample(self.samples.get(kind))}")
        lines.append(f"left out {sum(self.dropped.values()):,} of {self.made:,}:")
        for name, words in FILTERS.items():
            if self.dropped.get(name):
                more = (
                    f" (margin {self.margin:.2f} nats per token)" if name == "gain" and self.margin is not None else ""
                )
                lines.append(f"  {self.dropped[name]:6,} {words}{more}{_sample(self.samples.get(name))}")
        if self.asked:
            lines.append(
                f"{self.teacher} was asked {self.asked:,} times; {self.unusable:,} of its answers were of no use"
            )
        return "\n".join([*lines, *self.remarks])


def _sample(some: list[tuple[str, str]] | None) -> str:
    if not some:
        return ""
    told = " ".join(f"{some[0][0]} -> {some[0][1]}".split())
    return f": {told if len(told) <= SHOWN else told[: SHOWN - 1] + '…'}"
