"""Rows: what a method learned, forgot, moved and takes, from the records of its runs, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from addenda.comparing.cost import of_median
from addenda.comparing.equal_gain import forgetting_at_gain
from addenda.comparing.methods import Method
from addenda.comparing.peft_methods import options_told
from addenda.core.errors import AddendaError
from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean, of_ratio


@dataclass(frozen=True)
class Row:
    """One method: what it learned, forgot and moved, in nats per token against the base, and what it takes.

    Means over seeds. `learned`, `forgotten` and `moved` (unrelated text) have intervals over documents, of these means, paired
    with the base; `kl` (from the base, nats) and `untouched` (share of tokens left bit-equal) the means of their seeds' intervals
    over documents. `changed` is the share of answers to general chats that are not the base's, `tasks` the share of zero-shot
    questions answered rightly above the base's, with intervals over chats and questions. These four of what changes the base,
    not of text in the window. `answered` is the share of questions about the corpus that are answered rightly in chat, `judged`
    of those that the documents answer the share that a judge calls right, where one was asked.
    `prefill` and `decode` are times over the bare base's, medians with intervals over
    timed repeats; what `rag` takes to find passages is part of its prefill. `by_seed` has each seed's learning and forgetting;
    `seconds` are of training, without validations, or of building the index; `peak_megabytes` is the most that training took
    over what was in use before it, and the base's weights. None where it is not known, also of records of earlier versions.
    `extra_tokens` are read for each window. `at_gain` is what it forgets at the gain of the comparison's gated module, in the
    validations of its runs (None: it has none, or does not reach that gain), of which `curve` has the first seed's. `rival` has
    the name, the options and the package with its version of a method of PEFT's.
    """

    method: str
    said: str
    rate: float | None
    learned: Interval
    forgotten: Interval
    moved: Interval
    kl: Interval | None
    untouched: Interval | None
    by_seed: tuple[tuple[float, float], ...]
    parameters: int
    bytes: int
    seconds: float | None
    peak_megabytes: float | None
    extra_tokens: int
    prefill: Interval
    decode: Interval
    curve: tuple[dict[str, float], ...]
    changed: Interval | None = None
    tasks: Interval | None = None
    answered: Interval | None = None
    at_gain: Interval | None = None
    judged: Interval | None = None
    rival: dict[str, Any] | None = None

    def told(self) -> str:
        """What it is; of a method of PEFT's also with which options, and by which version."""
        if self.rival is None:
            return self.said
        return f"{self.said}: {options_told(self.rival['options']) or 'no options'}, {self.rival['package']}"


@dataclass(frozen=True)
class Failed:
    """A method that could not be measured, the rate and seed at which it failed (None where at all), and why."""

    method: str
    rate: float | None
    seed: int | None
    reason: str

    def __str__(self) -> str:
        where = "" if self.rate is None else f" at rate {self.rate:.3g}, seed {self.seed}"
        return f"{self.method} failed{where}: {self.reason}"


def row_of(
    method: Method,
    rate: float | None,
    runs: Sequence[dict[str, Any]],
    bare: dict[str, Any],
    gain: float | None = None,
    judged: Interval | None = None,
) -> Row:
    """The row of a method's runs, one for each seed, none of which failed, against the bare base's record.

    `gain` is that at which forgetting is told; None: at none. `judged` is as a row has it.
    """
    learned = [_against(bare["learning"], run["learning"]) for run in runs]
    forgotten = [_against(run["forgetting"], bare["forgetting"]) for run in runs]
    earlier = any(
        "times" not in run for run in runs
    )  # their clock had validations in it, their peak all that was there
    moved = [run["unrelated"] for run in runs]
    return Row(
        method=method.name,
        said=method.said,
        rate=rate,
        learned=_over_seeds(learned, bare["learning"]),
        forgotten=_over_seeds(forgotten, bare["forgetting"]),
        moved=_moved(moved, bare["unrelated"]),
        kl=_mean_of([score.get("kl") for score in moved]),
        untouched=_mean_of([score.get("untouched") for score in moved]),
        by_seed=tuple(
            (_nats(a, bare["learning"]), _nats(b, bare["forgetting"])) for a, b in zip(learned, forgotten, strict=True)
        ),
        parameters=runs[0]["parameters"],
        bytes=runs[0]["bytes"],
        seconds=None if earlier else float(np.mean([run["seconds"] for run in runs])),
        peak_megabytes=None if earlier else _largest([run["peak_megabytes"] for run in runs]),
        extra_tokens=runs[0]["extra_tokens"],
        prefill=_times(runs, "prefill", 0),
        decode=_times(runs, "decode", 1),
        curve=tuple(runs[0]["curve"]),
        changed=_mean_over([run.get("changed") for run in runs], SHARE),
        tasks=_mean_over([_added(run.get("right"), bare.get("right")) for run in runs], CHANGE),
        answered=_mean_over([run.get("answered") for run in runs], SHARE),
        at_gain=None
        if gain is None or reached(runs) < gain
        else forgetting_at_gain([_points(run) for run in runs], gain),
        judged=judged,
        rival=runs[0].get("rival"),
    )


def reached(runs: Sequence[dict[str, Any]]) -> float:
    """The gain that every run reached in some validation, nats per token; 0 where one has none."""
    return min(max((point["learning"] for point in run["curve"]), default=0.0) for run in runs)


def _points(run: dict[str, Any]) -> list[tuple[float, Interval]]:
    """Gain and forgetting of a run's validations; an earlier version kept no interval."""
    points: list[tuple[float, Interval]] = []
    for at in run["curve"]:
        value = at["forgetting"]
        low, high = (at.get(f"forgetting_{end}", value) for end in ("low", "high"))
        points.append((at["learning"], Interval(value, low, high, 1)))
    return points


def _against(more: dict[str, Any], less: dict[str, Any]) -> np.ndarray:
    """The difference of two scores' sums [documents]."""
    if more["counts"] != less["counts"]:
        raise AddendaError("two runs were scored on different documents; remove their records")
    return np.array(more["sums"]) - np.array(less["sums"])


def _nats(sums: np.ndarray, of: dict[str, Any]) -> float:
    return float(sums.sum() / np.sum(of["counts"]))


def _over_seeds(sums: Sequence[np.ndarray], of: dict[str, Any]) -> Interval:
    """The mean over seeds with its interval over documents."""
    return of_ratio(np.mean(sums, axis=0), np.array(of["counts"], float))


def _moved(scores: Sequence[dict[str, Any]], bare: dict[str, Any]) -> Interval:
    if all("sums" in score for score in scores):
        return _over_seeds([_against(score, bare) for score in scores], bare)
    # an earlier version kept the difference with its interval alone
    kept = [score if "low" in score else {"nats": _nats(_against(score, bare), bare)} for score in scores]
    value, low, high = (
        float(np.mean([score.get(key, score["nats"]) for score in kept])) for key in ("nats", "low", "high")
    )
    return Interval(value, low, high, len(bare["counts"]))


def _mean_of(values: Sequence[Any]) -> Interval | None:
    """The mean over seeds of intervals over the same documents, or of numbers that have none."""
    if any(value is None for value in values):
        return None
    each = [Interval(**value) if isinstance(value, dict) else Interval(value, value, value, 1) for value in values]
    value, low, high = (
        float(np.mean([getattr(interval, key) for interval in each])) for key in ("value", "low", "high")
    )
    return Interval(value, low, high, min(interval.n for interval in each))


def _added(more: Sequence[float] | None, less: Sequence[float] | None) -> np.ndarray | None:
    return None if more is None or less is None else np.array(more) - np.array(less)


def _mean_over(by_seed: Sequence[Any], within: tuple[float, float]) -> Interval | None:
    """The mean over seeds of what was found of each chat or question, with its interval over these."""
    if any(values is None for values in by_seed):
        return None
    return of_mean(np.mean(np.array(by_seed, float), axis=0), within=within)


def _times(runs: Sequence[dict[str, Any]], name: str, at: int) -> Interval:
    """The median over the timed repeats of all runs; an earlier version kept each run's median alone."""
    if all("times" in run for run in runs):
        return of_median([seconds for run in runs for seconds in run["times"][name]])
    value = float(np.median([run["cost"][at] if "cost" in run else np.median(run["times"][name]) for run in runs]))
    return Interval(value, value, value, 1)


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
