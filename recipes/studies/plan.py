"""What the studies' plans share: their scale, methods with the rates of their sweeps, and what a sweep chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from addenda.core.errors import AddendaError
from recipes.records import Records, in_part
from recipes.studies.run import LENGTH, ROWS, Run

SWEEP, SWEEP_TOKENS = "sweep", 400_000


@dataclass(frozen=True)
class Way:
    """A method of a study: kind, options and settings, and the learning rates that its sweep tries.

    Its module stands behind `gate`, where its kind has none of its own.
    """

    kind: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    rates: tuple[float, ...]
    gate: str | None = None


@dataclass(frozen=True)
class Scale:
    """How large a study is: a share of the full number of tokens (a GPU's), the seeds, tokens scored of each held-out text.

    A `thin` one sweeps nothing, each method takes the middle one of its rates, and leaves out what its study says it leaves out.
    """

    share: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2)
    held: int = 12_000
    thin: bool = False

    def tokens(self, full: int) -> int:
        """So many of the full number, at least four steps."""
        return max(4 * ROWS * LENGTH, round(full * self.share))

    def run(self, way: Way, study: str, part: str, method: str, subject: str, *, tokens: int, **more: Any) -> Run:
        """A run of a way; `options` and `settings` among the run's fields go on top of the way's own."""
        options = dict(way.options) | dict(more.pop("options", {}))
        settings = dict(way.settings) | dict(more.pop("settings", {}))
        fixed: dict[str, Any] = {"tokens": self.tokens(tokens), "held": self.held} | more
        return Run(study, part, method, subject, way.kind, options, settings, **fixed)


QUICK = Scale(0.02, (0,), 4_000, thin=True)


def sweep(
    study: str, ways: Mapping[str, Way], subjects: Iterable[str], scale: Scale, tokens: int = SWEEP_TOKENS
) -> Iterator[Run]:
    """Every way at each of its rates on every subject, once."""
    for name in subjects if not scale.thin else ():
        for method, way in ways.items():
            for lr in way.rates:
                yield scale.run(way, study, SWEEP, method, name, lr=lr, tokens=tokens)


def of_part(records: Records, study: str, *parts: str) -> Records:
    """The records of some parts of a study."""
    return [record for record in in_part(records, *parts) if record["run"]["study"] == study]


def total_gain(record: dict[str, Any]) -> float:
    """What a run gained, over its subjects."""
    return sum(gain[0] for gain in record["gains"].values())


def rates(records: Records, study: str, ways: Mapping[str, Way], subject: str, scale: Scale) -> dict[str, float]:
    """The rate of each way that gained most in the sweep on a subject, of those whose sweep has a record of every rate.

    Raises:
        AddendaError: sweeps of different budgets are among the records.
    """
    if scale.thin:
        return {method: way.rates[(len(way.rates) - 1) // 2] for method, way in ways.items()}
    swept = [record for record in of_part(records, study, SWEEP) if record["run"]["subject"] == subject]
    budgets = {record["run"]["tokens"] for record in swept}
    if len(budgets) > 1:
        raise AddendaError(
            f"the sweep of '{study}' on '{subject}' has records of {sorted(budgets)} tokens: --docs with another folder keeps "
            "studies of different scale apart"
        )
    gains = {method: _gains(swept, method) for method in ways}
    return {
        method: max(gains[method], key=gains[method].__getitem__)
        for method, way in ways.items()
        if set(way.rates) <= set(gains[method])
    }


def edges(records: Records, study: str) -> str:
    """Of which sweeps the best rate is the lowest or the highest that was tried: a better one may lie beyond."""
    told: list[str] = []
    swept = of_part(records, study, SWEEP)
    for subject, method in dict.fromkeys((record["run"]["subject"], record["run"]["method"]) for record in swept):
        gains = _gains([record for record in swept if record["run"]["subject"] == subject], method)
        best = max(gains, key=gains.__getitem__)
        if len(gains) > 1 and best in (min(gains), max(gains)):
            which = "lowest" if best == min(gains) else "highest"
            told.append(f"{method} on {subject} ({best:g}, the {which})")
    return f"At the edge of its sweep, so that a better rate may lie beyond: {'; '.join(told)}." if told else ""


def _gains(swept: Records, method: str) -> dict[float, float]:
    """What each rate of a method gained."""
    return {record["run"]["lr"]: total_gain(record) for record in swept if record["run"]["method"] == method}
