"""Interleaved pairs: two steps timed in turn, the median of their ratios with its 95% interval."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

#: no claim is made from a ratio during which other processes kept more cores busy than this
QUIET = 0.1
#: draws of the bootstrap behind every interval
DRAWS = 4000
#: what is read for the time: `wall` is what a user waits; `cpu`, this process's own time, is less disturbed by others
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Ratio:
    """Time of B over time of A: the median over pairs, and the bootstrap's 95% interval of that median."""

    median: float
    low: float
    high: float
    pairs: int
    seconds_a: float
    seconds_b: float

    def plain(self) -> dict[str, Any]:
        """As numbers rounded to five places, for JSON."""
        return {key: round(value, 5) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Step:
    """Something to time: `slices` does `units` units of work on what `prepare` made, which is not timed.

    It gets a clock and gives the seconds of one slice after another; between two slices something else may be timed.
    """

    slices: Callable[[Any, Callable[[], float]], Iterator[float]]
    prepare: Callable[[], Any] = lambda: None
    units: int = 1

    def begin(self, clock: str = "wall") -> Iterator[float]:
        """Seconds of each slice in turn, by one of `CLOCKS`."""
        return self.slices(self.prepare(), CLOCKS[clock])

    def seconds(self, clock: str = "wall") -> float:
        """Seconds for one unit."""
        return sum(self.begin(clock)) / self.units


def whole(run: Callable[[Any], Any], prepare: Callable[[], Any] = lambda: None, units: int = 1) -> Step:
    """A step in one slice."""

    def slices(made: Any, clock: Callable[[], float]) -> Iterator[float]:
        start = clock()
        run(made)
        yield clock() - start

    return Step(slices, prepare, units)


def compare(a: Step, b: Step, pairs: int, clock: str = "wall", seed: int = 0) -> Ratio:
    """Time A and B in turn, `pairs` times each after one untimed round.

    Inside a pair their slices take turns, so that a machine that is slow for a second is slow for both; and the order
    alternates from pair to pair (A B, B A, ...), so that one that slows down steadily favours neither.
    """
    a.seconds(), b.seconds()
    taken: list[tuple[float, float]] = []
    gc.collect(1)
    gc.disable()
    try:
        for number in range(pairs):
            if number % 2 == 0:
                taken.append(_in_turn(a, b, clock))
            else:
                second, first = _in_turn(b, a, clock)
                taken.append((first, second))
            gc.collect(0)
    finally:
        gc.enable()
    ratios = [b / a for a, b in taken]
    low, high = interval(ratios, seed)
    return Ratio(median(ratios), low, high, pairs, median(a for a, _ in taken), median(b for _, b in taken))


def _in_turn(first: Step, second: Step, clock: str) -> tuple[float, float]:
    """Seconds for one unit of each, slice by slice."""
    both = list(zip_longest(first.begin(clock), second.begin(clock), fillvalue=0.0))
    return sum(a for a, _ in both) / first.units, sum(b for _, b in both) / second.units


def interval(values: list[float], seed: int = 0) -> tuple[float, float]:
    """The bootstrap's 95% interval of the median of `values`."""
    draws = np.random.default_rng(seed).choice(np.asarray(values), size=(DRAWS, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(high)


class Others:
    """How many cores other processes kept busy meanwhile: what makes a timing worthless. Linux only, else None."""

    def __init__(self) -> None:
        self.start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        fields = [int(part) for part in stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        busy = sum(fields) - fields[3] - fields[4]  # all but idle and waiting for disks
        own = os.times()
        mine = own.user + own.system + own.children_user + own.children_system
        return time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), mine

    def cores(self) -> float | None:
        """Mean number of cores that others used since this was made."""
        now = self._now()
        if now is None or self.start is None:
            return None
        elapsed, busy, mine = (b - a for a, b in zip(self.start, now, strict=True))
        return max(0.0, (busy - mine) / max(elapsed, 1e-9))
