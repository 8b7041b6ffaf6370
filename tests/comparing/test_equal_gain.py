"""Forgetting at equal gain: read off curves that are known, with its interval, and refused where nothing is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import addenda
from addenda.comparing.compare import equal_gain
from addenda.comparing.equal_gain import RESOLUTION, Point, envelope, ratio_at_equal_gain
from addenda.comparing.methods import METHODS
from addenda.comparing.page import row_cells
from addenda.comparing.rows import row_of
from addenda.core.errors import AddendaError
from addenda.telling.intervals import Interval


def test_a_curve_keeps_the_least_forgetting_for_each_gain() -> None:
    curve = envelope([(0.2, 0.3), (0.4, 0.1), (0.5, 0.2), (-0.1, 0.9)])
    assert curve.gains.tolist() == [0.0, 0.4, 0.5]  # 0.2 is reached more cheaply on the way to 0.4
    assert curve.costs.tolist() == [0.0, 0.1, 0.2]
    assert curve.first == 0.2


def test_forgetting_is_read_between_points_and_from_the_base_on() -> None:
    run: list[Point] = [(0.2, 0.1), (0.4, 0.3)]
    for gain, lost in ((0.1, 0.05), (0.2, 0.1), (0.3, 0.2), (0.4, 0.3)):
        told = addenda.forgetting_at_gain([run], gain)
        assert (float(told), told.low, told.high) == pytest.approx((lost,) * 3)
    assert float(addenda.forgetting_at_gain([[(0.3, -0.02)]], 0.2)) == 0.0


def test_the_interval_joins_documents_and_seeds() -> None:
    def run(lost: float) -> list[Point]:
        return [(0.2, Interval(lost, lost - 0.02, lost + 0.04, 50))]

    (one, alike, apart) = (addenda.forgetting_at_gain(runs, 0.1) for runs in ([run(0.2)], [run(0.2)] * 3, map_of(run)))
    assert (one.value, one.low, one.high) == pytest.approx((0.1, 0.09, 0.12))
    assert (alike.low, alike.high, alike.n) == pytest.approx((0.09, 0.12, 3))  # more seeds are not more documents
    half = 12.71 * np.std([0.1, 0.15], ddof=1) / 2**0.5
    assert (apart.value, apart.low, apart.high) == pytest.approx(
        (0.125, 0.125 - np.hypot(0.01, half), 0.125 + np.hypot(0.02, half))
    )


def map_of(run: Any) -> list[list[Point]]:
    return [run(0.2), run(0.3)]


@pytest.mark.parametrize(
    ("runs", "gain", "said"),
    [
        ([[(0.2, 0.1)], [(0.5, 0.1)]], 0.4, "a gain of 0.400 nats was not reached: run 0 0.200 at most"),
        ([[(-0.2, 0.1)]], 0.1, "run 0 0.000 at most"),
        ([[(0.2, float("nan"))]], 0.1, "not finite"),
        ([[(0.2, 0.1)]], 0.0, "must be positive"),
        ([[(0.2, 0.1)]], float("nan"), "must be positive"),
        ([], 0.1, "no run"),
    ],
)
def test_what_is_not_known_is_refused(runs: Any, gain: float, said: str) -> None:
    with pytest.raises(AddendaError, match=said):
        addenda.forgetting_at_gain(runs, gain)


def test_ratio_is_taken_where_both_were_measured() -> None:
    ours, theirs = envelope([(0.2, 0.01), (0.4, 0.02)]), envelope([(0.1, 0.01), (0.6, 0.06)])
    found = ratio_at_equal_gain(ours, theirs)
    assert found is not None
    assert (found.low, found.high) == (0.2, 0.4)
    assert (found.mean, found.worst) == pytest.approx((0.5, 0.5))
    assert ratio_at_equal_gain(ours, envelope([])) is None
    assert ratio_at_equal_gain(ours, envelope([(0.5, 0.1)])) is None  # no gain is shared


def test_what_cannot_be_measured_is_not_compared() -> None:
    ours, theirs = (envelope([(0.1, 0.001), (0.5, lost)]) for lost in (0.05, 0.1))
    found = ratio_at_equal_gain(ours, theirs)
    assert found is not None
    assert np.interp(found.low, theirs.gains, theirs.costs) >= RESOLUTION
    assert (found.low > 0.1, found.high) == (True, 0.5)
    assert 0.5 <= found.mean <= found.worst < 0.6
    assert ratio_at_equal_gain(ours, envelope([(0.5, 0.004)])) is None


def test_ratio_of_a_curve_with_itself_is_one() -> None:
    curve = envelope(map(tuple, np.random.default_rng(0).uniform(0.1, 1.0, (9, 2)).tolist()))  # type: ignore[arg-type]
    found = ratio_at_equal_gain(curve, curve)
    assert found is not None
    assert (found.mean, found.worst) == pytest.approx((1.0, 1.0))


def made(*points: tuple[float, float], **more: float) -> dict[str, Any]:
    """A record of a run with these validations."""
    score = {"nats": 3.0, "sums": [30.0, 30.0], "counts": [10, 10]}
    curve = [{"tokens": at, "learning": gain, "forgetting": lost} | more for at, (gain, lost) in enumerate(points)]
    return dict.fromkeys(("learning", "forgetting", "unrelated"), score) | {
        "parameters": 5, "bytes": 20, "seconds": 3.0, "peak_megabytes": 7.0, "extra_tokens": 0, "curve": curve,
        "times": {"prefill": [1.0], "decode": [1.0]},
    }  # fmt: skip


def test_a_comparison_tells_it_at_the_gain_of_its_gated_module() -> None:
    runs = {
        "base": [made()], "lora": [made((0.2, 0.1), (0.6, 0.3)), made((0.6, 0.4))],
        "neutral": [made((0.1, 0.0), (0.3, 0.01)), made((0.31, 0.02))], "neutral-token": [made((0.2, 0.0))],
    }  # fmt: skip
    assert equal_gain(runs) == ("neutral", 0.3)  # what both of its runs reached
    assert equal_gain({name: runs[name] for name in ("base", "lora")}) is None
    rows = {name: row_of(METHODS[name], 1e-3, each, runs["base"][0], 0.3) for name, each in runs.items()}
    told = rows["lora"].at_gain
    assert told is not None
    assert told.value == pytest.approx(0.175)
    assert told.value - told.low == pytest.approx(12.71 * np.std([0.15, 0.2], ddof=1) / 2**0.5)
    assert row_cells(rows["lora"], apart=False)[3][0] == "+0.175"
    assert [rows[name].at_gain for name in ("base", "neutral-token")] == [None, None]  # neither reaches it
    assert row_cells(rows["neutral-token"], apart=False)[3] == ("-", "")
    alone = row_of(
        METHODS["lora"], 1e-3, [made((0.6, 0.3), forgetting_low=0.2, forgetting_high=0.5)], runs["base"][0], 0.3
    )
    assert row_cells(alone, apart=False)[3] == ("+0.150", "+0.100 to +0.250")


@pytest.mark.slow
def test_a_kind_under_its_own_name_is_compared_beside_a_gated_module(ways: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"methods": ("delta_product", "lora", "neutral"), "tokens": 4096, "rates": 1}
    found = ways.compare(tmp_path, **given)
    rows = {row.method: row for row in found.rows}
    assert not found.failed
    assert rows["delta_product"].parameters > 0
    gain = float(found.facts["equal gain"].split()[0])
    assert rows["neutral"].at_gain is not None
    assert gain <= max(point["learning"] for point in rows["neutral"].curve) + 5e-4
    for row in rows.values():
        for point in row.curve:
            assert point["forgetting_low"] <= point["forgetting"] <= point["forgetting_high"]
    lines = (tmp_path / "report.html").read_text()
    assert "forgotten at equal gain" in lines
    again = ways.compare(tmp_path, **given)
    assert again.rows == found.rows
    before = row_of(METHODS["lora"], 1e-3, [made((0.6, 0.3))], made())
    assert before.at_gain is None
