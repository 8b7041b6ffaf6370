"""Equal gain: what methods forget where they have learned as much, from points along their runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from addenda.core.errors import AddendaError
from addenda.telling.intervals import Interval, of_runs

#: gain and forgetting, nats per token; forgetting may come with its interval over documents
Point = tuple[float, float | Interval]
#: forgetting, in nats, below which held-out text does not tell two methods apart
RESOLUTION = 0.005


@dataclass(frozen=True)
class Curve:
    """The least forgetting at which a run reaches at least each gain; `first` is the least gain it was measured at.

    `gains` [n] rise from 0, the base itself; `costs`, `lows` and `highs` [n] are forgetting and the ends of its interval.
    """

    gains: np.ndarray
    costs: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    first: float

    def at(self, gain: float) -> Interval:
        """Forgetting at a gain that the curve reaches, in a straight line between two of its points."""
        value, low, high = (float(np.interp(gain, self.gains, ends)) for ends in (self.costs, self.lows, self.highs))
        return Interval(value, low, high, 1)


def envelope(points: Iterable[Point]) -> Curve:
    """The curve through the points that no other point betters: gains rising, forgetting too.

    The base itself (no gain, nothing forgotten) belongs to every curve. Negative forgetting counts as none.
    """
    rows = [(float(gain), *_ends(forgetting)) for gain, forgetting in points]
    if not np.isfinite(np.array(rows)).all():
        raise AddendaError("a point of a run is not finite: leave out runs that diverged")
    kept: list[tuple[float, ...]] = []
    least = np.inf
    for row in sorted({tuple(max(0.0, number) for number in row) for row in rows} | {(0.0,) * 4}, reverse=True):
        if row[1] < least:
            kept.append(row)
            least = row[1]
    columns = (np.array(column) for column in zip(*reversed(kept), strict=True))
    return Curve(*columns, first=min((row[0] for row in rows if row[0] > 0), default=np.inf))


def _ends(forgetting: float | Interval) -> tuple[float, float, float]:
    if isinstance(forgetting, Interval):
        return forgetting.value, forgetting.low, forgetting.high
    number = float(forgetting)
    return number, number, number


def forgetting_at_gain(runs: Sequence[Sequence[Point]], gain: float) -> Interval:
    """What a method forgets where it has gained so much: the figure to compare methods by that learn unequally.

    A run is its points along training. Its forgetting at a gain is the least at which it reaches that gain or more; between
    two points, the base being one, it is taken from a straight line.

    Args:
        runs: the points of each seed's run, in any order: gain and forgetting in nats per token against the base, forgetting
            as a number or with its interval over documents, which are the same in every run.
        gain: nats per token, such as a gated module's own gain.

    Returns:
        The mean over runs. Its 95% interval joins what documents leave uncertain, where points have intervals, with
        Student's over runs, where there are two or more; `n` is the number of runs.

    Raises:
        AddendaError: the gain is not positive, there is no run, a point is not finite, or a run does not reach the gain: then
            its largest gain is named.
    """
    if not gain > 0:
        raise AddendaError(f"the gain must be positive: at none nothing is forgotten; got {gain}")
    if not runs:
        raise AddendaError("there is no run to find the forgetting of")
    curves = [envelope(points) for points in runs]
    short = [f"run {at} {curve.gains[-1]:.3f}" for at, curve in enumerate(curves) if curve.gains[-1] < gain]
    if short:
        raise AddendaError(
            f"a gain of {gain:.3f} nats was not reached: {', '.join(short)} at most. Ask for a smaller gain, or train longer"
        )
    return of_runs([curve.at(gain) for curve in curves])


@dataclass(frozen=True)
class Ratio:
    """Forgetting of one run over that of another at equal gain: the mean over gains from `low` to `high`, and the worst."""

    mean: float
    worst: float
    low: float
    high: float


def ratio_at_equal_gain(ours: Curve, theirs: Curve, steps: int = 41) -> Ratio | None:
    """Forgetting of ours over theirs at the gains that both were measured at.

    The range runs from the larger of the two least gains measured to the smaller of the two largest, less the gains at
    which theirs forgets too little to measure; None where nothing is left. Between the points of a curve, the base being
    one, forgetting is taken from a straight line: what is known of a method can only be better than its points, and
    never is it said to be worse.
    """
    first, last = max(ours.first, theirs.first), min(ours.gains.max(), theirs.gains.max())
    if not first <= last:
        return None
    grid = np.linspace(first, last, steps)
    grid = grid[np.interp(grid, theirs.gains, theirs.costs) >= RESOLUTION]
    if not len(grid):
        return None
    mine, other = (np.interp(grid, curve.gains, curve.costs) for curve in (ours, theirs))
    return Ratio(float(mine.sum() / other.sum()), float((mine / other).max()), float(grid[0]), float(grid[-1]))
