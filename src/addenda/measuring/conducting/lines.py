"""Lines of what was found: shares in words, entries of a card, names of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from addenda.core import card
from addenda.core.card import ENOUGH
from addenda.telling.intervals import Interval

SHARE, NATS = "share", "nats per token"


def times(weights: Mapping[str, float]) -> int:
    """How often things are read: once of the base alone, twice with modules off and on."""
    return 2 if weights else 1


def share(interval: Interval | None, sign: str = "") -> str:
    """A share in percent with its interval; a dash where it was not measured."""
    if interval is None or not interval.n:
        return "-"
    text = f"{interval.value:{sign}.1%}"
    return text if interval.n < ENOUGH else f"{text} [{interval.low:{sign}.1%}, {interval.high:{sign}.1%}]"


def on_card(
    name: str, interval: Interval | None, on: str, reference: Interval | None = None, unit: str = SHARE
) -> Iterator[card.Measure]:
    """A line of a card, with the bare base's value beside it; nothing for what was not measured."""
    if interval is not None:
        yield card.Measure.over(
            interval.n, name, interval.value, interval.low, interval.high, unit=unit, on=on,
            reference=None if reference is None else reference.value,
        )  # fmt: skip


def file_name(given: Any) -> dict[str, str]:
    """What files are called, by what they are for, without folder and the endings that tell their form; of paths alone."""
    names: dict[str, str] = {}
    for what, file in given.items():
        if isinstance(file, str | Path):
            names[what] = Path(file).name
            for ending in (".gz", ".jsonl", ".json"):
                names[what] = names[what].removesuffix(ending)
    return names
