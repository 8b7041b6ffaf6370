"""Judging: what the methods answered is judged after all of it is written, so that a judge who is away costs no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from addenda.measuring.asking.asked import Asked
from addenda.measuring.asking.judge import Judge, Judged
from addenda.telling.intervals import SHARE, Interval, of_mean


def judged_runs(judge: Judge, asked: Sequence[Asked], runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Judged:
    """Verdicts on what each run of each method wrote, by the method and the run's place; none where its record has none.

    Raises:
        Stopped: after a signal; verdicts that came are kept.
    """
    said = {_way(name, at): run["said"] for name, made in runs.items() for at, run in enumerate(made) if "said" in run}
    return judge.judged(asked, said)


def share_of(judged: Judged | None, method: str) -> Interval | None:
    """The share of a method's answers that are judged right: means over its runs, with an interval over questions."""
    if judged is None:
        return None
    by_run = [given for way, given in judged.verdicts.items() if way.rpartition(" ")[0] == method]
    each = [[float(verdict) for verdict in one if verdict is not None] for one in zip(*by_run, strict=True)]
    means = [sum(given) / len(given) for given in each if given]
    return of_mean(means, within=SHARE) if means else None


def unwritten(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A remark on each method whose records, of an earlier version, kept no answers that could be judged."""
    return [
        f"{name} was asked by an earlier version, which kept no answers to be judged; without its records it is asked anew."
        for name, made in runs.items()
        if not all("said" in run for run in made)
    ]


def _way(method: str, at: int) -> str:
    return f"{method} {at}"
