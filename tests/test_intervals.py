"""Intervals: they hold the truth as often as they say, are tight where groups agree, and mark what one unit cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from addenda.intervals import of_mean, of_ratio


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """400 experiments of 60 documents each: 95% intervals hold the true loss in 92 to 98% of them."""
    random, held = np.random.default_rng(1), 0
    for _ in range(400):
        counts = random.integers(50, 500, size=60)
        each = 3.0 + random.normal(0, 0.4, size=60)
        found = of_ratio(counts * each, counts.astype(float), draws=400)
        held += found.low <= 3.0 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_questions_about_one_person_are_one_observation() -> None:
    """Five answers that always agree tell no more than one: drawn apart, the interval would be far too narrow."""
    random = np.random.default_rng(0)
    grouped = apart = 0
    for _ in range(300):
        people = random.random(40) < 0.3
        values, groups = np.repeat(people, 5).astype(float), np.repeat(np.arange(40), 5).tolist()
        one, other = of_mean(values, groups), of_mean(values)
        assert one.value == other.value
        assert one.n == 40
        grouped += one.low <= 0.3 <= one.high
        apart += other.low <= 0.3 <= other.high
    assert grouped / 300 >= 0.9
    assert apart / 300 < 0.75


def test_ratios_of_small_numbers_lie_in_their_interval() -> None:
    """What is divided by need not be a number of tokens: halves of small gains are halves."""
    gains = np.array([0.01, 0.02, 0.04])
    found = of_ratio(gains / 2, gains)
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))
    mixed = of_ratio(np.array([0.0, 0.02, 0.01]), gains)
    assert mixed.low <= mixed.value <= mixed.high
    assert mixed.high == pytest.approx(1.0)


def test_equal_values_differ_by_nothing() -> None:
    found = of_mean(np.zeros(30))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert float(found) == 0.0


def test_one_unit_has_no_interval() -> None:
    found = of_mean([0.5])
    assert found.low == found.high == found.value
    assert found.as_dict() == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1}
