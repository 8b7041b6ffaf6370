"""What the studies' plans share: their scale, methods with the rates of their sweeps, and what a sweep chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recipes.studies.run import LENGTH, ROWS, Run

Records = list[dict[str, Any]]
SWEEP, SWEEP_TOKENS = "sweep", 250_000


@dataclass(frozen=True)
class Scale:
    """How large a study is: a share of the full number of tokens, and the seeds."""

    share: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)

    def tokens(self, full: int) -> int:
        """So many of the full number, at least four steps."""
        return max(4 * ROWS * LENGTH, round(full * self.share))


QUICK = Scale(0.1, (0, 1))


@dataclass(frozen=True)
class Way:
    """A method of a study: kind, options and settings, and the learning rates that its sweep tries."""

    kind: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    rates: tuple[float, ...]

    def run(self, study: str, part: str, method: str, subject: str, **more: Any) -> Run:
        """A run of it; `more` are fields of the run, `options` and `settings` among them, which go on top of its own."""
        options = dict(self.options) | dict(more.pop("options", {}))
        settings = dict(self.settings) | dict(more.pop("settings", {}))
        kind = more.pop("kind", self.kind)
        return Run(study, part, method, subject, kind, options, settings, **more)


def sweep(study: str, ways: Mapping[str, Way], subjects: Iterable[str], scale: Scale) -> Iterator[Run]:
    """Every way at each of its rates on every subject, once."""
    for name in subjects:
        for method, way in ways.items():
            for lr in way.rates:
                yield way.run(study, SWEEP, method, name, lr=lr, tokens=scale.tokens(SWEEP_TOKENS))


def of_part(records: Records, study: str, *parts: str) -> Records:
    """The records of some parts of a study."""
    return [one for one in records if one["run"]["study"] == study and one["run"]["part"] in parts]


def total_gain(record: dict[str, Any]) -> float:
    """What a run gained, over its subjects."""
    return sum(gain[0] for gain in record["gains"].values())


def rates(records: Records, study: str, ways: Mapping[str, Way], subject: str) -> dict[str, float]:
    """The rate of each way that gained most in the sweep on a subject, of those whose sweep is done."""
    best: dict[str, tuple[float, float]] = {}
    for one in of_part(records, study, SWEEP):
        run = one["run"]
        if run["subject"] == subject and run["method"] in ways:
            best[run["method"]] = max(best.get(run["method"], (float("-inf"), 0.0)), (total_gain(one), run["lr"]))
    return {method: lr for method, (_, lr) in best.items()}
