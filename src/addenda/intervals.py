"""Intervals: 95% by the bootstrap, over the units that were drawn (documents, people, questions), seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: draws of the bootstrap behind every interval
DRAWS = 1000


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


def of_ratio(sums: np.ndarray, counts: np.ndarray, draws: int = DRAWS) -> Interval:
    """sum(sums) / sum(counts), both [n], counts not negative: a loss per token, whose units are documents."""
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
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return Interval(value, float(low), float(high), len(sums))


def of_mean(values: Sequence[float] | np.ndarray, groups: Sequence[object] | None = None) -> Interval:
    """The mean of values; where `groups` says which belong together (questions about one person), groups are drawn whole.

    For a paired comparison give the differences.
    """
    numbers = np.asarray(values, dtype=float)
    if groups is None:
        return of_ratio(numbers, np.ones_like(numbers))
    place = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    index = np.array([place[group] for group in groups])
    return of_ratio(np.bincount(index, numbers), np.bincount(index).astype(float))


def mcnemar(ours: Sequence[float] | np.ndarray, theirs: Sequence[float] | np.ndarray) -> float:
    """The two-sided p-value that two answerers of the same questions are equally often right (1, or 0): McNemar's exact test."""
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    up, down = int((a > b).sum()), int((a < b).sum())
    n = up + down
    tail = sum(math.comb(n, k) for k in range(min(up, down) + 1)) / 2**n
    return min(1.0, 2 * tail)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted for their number by Holm's method; never below what they were."""
    order = sorted(range(len(p)), key=lambda at: p[at])
    adjusted, most = [0.0] * len(p), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = most
    return adjusted
