"""Intervals: 95% by the bootstrap, over the units that were drawn (documents, people, questions), seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: draws of the bootstrap behind every interval
DRAWS = 1000
#: units up to which every pattern of signs is tried; above, so many are drawn
EXACT, FLIPS = 14, 20_000
#: what shares lie between, and differences of shares
SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)


@dataclass(frozen=True)
class Interval:
    """A number with its 95% interval over `n` units; the ends are the number itself below two."""

    value: float
    low: float
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def as_dict(self) -> dict[str, float]:
        """Plain data, for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def of_ratio(
    sums: np.ndarray, counts: np.ndarray, draws: int = DRAWS, within: tuple[float, float] | None = None
) -> Interval:
    """sum(sums) / sum(counts), both [n], counts not negative: a loss per token, whose units are documents.

    Percentiles of the bootstrap are too close where units are few; their distances from the number are widened as Student's t
    widens a normal interval, by 44% at six units, by 3% at sixty. `within` says between what the number lies in any case; a share
    of none or of all is no certainty: where every draw is alike its other end is that of Clopper and Pearson.
    """
    value = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Interval(value, value, value, len(sums))
    random = np.random.default_rng(0)
    block = max(1, 2**22 // len(sums))
    drawn: list[np.ndarray] = []
    for start in range(0, draws, block):
        chosen = random.integers(len(sums), size=(min(block, draws - start), len(sums)))
        total = counts[chosen].sum(1)
        drawn.append(sums[chosen].sum(1) / np.where(total > 0, total, 1))
    ends = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    low, high = value + widening(len(sums)) * (ends - value)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    if within == SHARE and value in SHARE:
        could_be = 1 - 0.025 ** (1 / len(sums))
        low, high = (0.0, could_be) if value == 0.0 else (1 - could_be, 1.0)
    return Interval(value, float(low), float(high), len(sums))


def of_mean(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[object] | None = None,
    within: tuple[float, float] | None = None,
) -> Interval:
    """The mean of values; where `groups` says which belong together (questions about one person), groups are drawn whole.

    For a paired comparison give the differences. `within` as of `of_ratio`: `SHARE` for shares.
    """
    numbers = np.asarray(values, dtype=float)
    if groups is None:
        return of_ratio(numbers, np.ones_like(numbers), within=within)
    sums, counts = _by_group(numbers, groups)
    return of_ratio(sums, counts, within=within)


def of_means(means: Sequence[Interval]) -> Interval:
    """The mean of means over separate units (accuracy by subject): over all these units, the subjects being as they are.

    Source: Zou and Donner 2008 (MOVER): distances to the ends add up in quadrature. `n` is the number of all units.
    """
    value = float(np.mean([mean.value for mean in means]))
    low = math.hypot(*(mean.value - mean.low for mean in means)) / len(means)
    high = math.hypot(*(mean.high - mean.value for mean in means)) / len(means)
    return Interval(value, value - low, value + high, sum(mean.n for mean in means))


#: Student's t at 97.5%, by the number of values; beyond, that of the last
_T = dict(enumerate((12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14), 2))


def half_width(values: Sequence[float]) -> float:
    """Half of Student's 95% interval for the mean of values; of one value there is none, and it is 0."""
    if len(values) < 2:
        return 0.0
    return _T.get(len(values), _T[max(_T)]) * float(np.std(values, ddof=1)) / len(values) ** 0.5


def of_runs(runs: Sequence[Interval]) -> Interval:
    """The mean over runs that were measured on the same documents or questions: `n` is the number of runs.

    What documents leave uncertain does not shrink with more runs: to the mean of the runs' own intervals Student's over runs
    is added, in quadrature.
    """
    value, low, high = (float(np.mean([getattr(run, key) for run in runs])) for key in ("value", "low", "high"))
    seeds = half_width([run.value for run in runs])
    return Interval(value, value - math.hypot(value - low, seeds), value + math.hypot(high - value, seeds), len(runs))


@lru_cache
def widening(n: int) -> float:
    """By what the half-widths of a percentile bootstrap over n >= 2 units are to be multiplied: t / z * sqrt(n / (n - 1))."""
    if n > 10_000:
        return 1.0
    # P(|T| < sqrt(df) tan a) is the integral of cos^(df - 1) from 0 to a, as a share of that to pi / 2
    angles = np.linspace(0.0, math.pi / 2, 2**17)
    height = np.cos(angles) ** (n - 2)
    area = np.concatenate([[0.0], np.cumsum(height[1:] + height[:-1])])
    t = math.sqrt(n - 1) * math.tan(float(np.interp(0.95, area / area[-1], angles)))
    return t / 1.959964 * math.sqrt(n / (n - 1))


def sign_flip(differences: Sequence[float] | np.ndarray, groups: Sequence[object] | None = None) -> float:
    """The two-sided p-value that paired differences are as often one way as the other: a test by flipping signs.

    Where `groups` says which belong together, a group's signs are flipped together. Exact up to 14 units that differ, over
    20,000 seeded draws above, so never below 1/20,001. With single questions that are right or wrong it is McNemar's exact test.
    """
    numbers = np.asarray(differences, dtype=float)
    sums = numbers if groups is None else _by_group(numbers, groups)[0]
    sums = sums[np.abs(sums) > 1e-12]
    n = len(sums)
    if n == 0:
        return 1.0
    least = abs(float(sums.sum())) * (1 - 1e-9)
    if n <= EXACT:
        signs = (np.arange(2**n)[:, None] >> np.arange(n) & 1) * 2 - 1
        return float((np.abs(signs @ sums) >= least).mean())
    random = np.random.default_rng(0)
    block = max(1, 2**22 // n)
    hits = 0
    for start in range(0, FLIPS, block):
        signs = random.integers(2, size=(min(block, FLIPS - start), n)) * 2 - 1
        hits += int((np.abs(signs @ sums) >= least).sum())
    return (1 + hits) / (1 + FLIPS)


def _by_group(numbers: np.ndarray, groups: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """The sum and the size of each group, in the order of their first."""
    place = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    index = np.array([place[group] for group in groups])
    return np.bincount(index, numbers), np.bincount(index).astype(float)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted for their number by Holm's method; never below what they were."""
    order = sorted(range(len(p)), key=lambda at: p[at])
    adjusted, most = [0.0] * len(p), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = most
    return adjusted
