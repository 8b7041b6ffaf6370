"""Intervals: they hold the truth as often as they say, also for few units; p-values too; one unit tells nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean, of_means, of_ratio, sign_flip, widening


@pytest.mark.parametrize(("units", "least"), [(2, 0.88), (3, 0.9), (5, 0.9), (10, 0.9), (60, 0.92)])
def test_intervals_cover_the_truth_as_often_as_they_say(units: int, least: float) -> None:
    """400 experiments of a few documents each, or of many: 95% intervals hold the true loss in nearly so many of them."""
    random, held = np.random.default_rng(1), 0
    for _ in range(400):
        counts = random.integers(50, 500, size=units)
        each = 3.0 + random.normal(0, 0.4, size=units)
        found = of_ratio(counts * each, counts.astype(float), draws=400)
        held += found.low <= 3.0 <= found.high
    assert least <= held / 400 <= 0.98


def test_few_units_are_widened_as_students_t_widens_and_many_are_left_as_they_are() -> None:
    for units, t in ((2, 12.706), (3, 4.3027), (11, 2.2281), (61, 2.0003)):  # printed tables: 97.5% at units - 1
        assert widening(units) == pytest.approx(t / 1.959964 * (units / (units - 1)) ** 0.5, rel=1e-4)
    assert widening(60) < 1.031
    assert widening(1000) < 1.002
    assert widening(10**6) == 1.0


def test_intervals_of_shares_end_where_shares_do() -> None:
    found = of_mean([1, 1, 1, 0.5], within=SHARE)
    assert (found.high, of_mean([1, 1, 1, 0.5]).high > 1) == (1.0, True)
    assert of_mean([0, 0, 1, 0], within=SHARE).low == 0.0
    assert of_mean([1, -1, 1], within=CHANGE).low == -1.0


def test_none_and_all_are_no_certainty() -> None:
    """Of five asked none: up to half of all could be; of a hundred, under four in a hundred. People count once."""
    for n, most in ((5, 0.522), (100, 0.0362)):
        none, every = of_mean(np.zeros(n), within=SHARE), of_mean(np.ones(n), within=SHARE)
        assert (none.value, none.low, none.high) == (0.0, 0.0, pytest.approx(most, abs=1e-3))
        assert (every.value, every.low, every.high) == (1.0, pytest.approx(1 - most, abs=1e-3), 1.0)
    assert of_mean(np.zeros(10), ["a"] * 5 + ["b"] * 5, SHARE).high == pytest.approx(1 - 0.025**0.5)
    assert of_mean(np.zeros(5), within=CHANGE).high == 0.0


def test_a_mean_of_means_is_over_the_units_within_each() -> None:
    """Subjects that differ much and are each known well: their mean is known well too. It covers as often as it says."""
    one, other = Interval(0.2, 0.17, 0.24, 100), Interval(0.8, 0.76, 0.83, 50)
    found = of_means([one, other])
    assert (found.value, found.n) == (pytest.approx(0.5), 150)
    assert (found.low, found.high) == (pytest.approx(0.475), pytest.approx(0.525))
    assert of_means([one]).as_dict() == pytest.approx(one.as_dict())
    random, held = np.random.default_rng(2), 0
    for _ in range(200):
        found = of_means([of_mean((random.random(50) < truth).astype(float)) for truth in (0.2, 0.4, 0.9)])
        held += found.low <= 0.5 <= found.high
    assert 0.9 <= held / 200 <= 0.99


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
    assert of_ratio(np.array([0.0, 0.02, 0.01]), gains, within=SHARE).high == 1.0


def test_equal_values_differ_by_nothing() -> None:
    found = of_mean(np.zeros(30))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert float(found) == 0.0


def test_one_unit_has_no_interval() -> None:
    found = of_mean([0.5])
    assert found.low == found.high == found.value
    assert found.as_dict() == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1}


def test_signs_are_flipped_exactly_for_few_and_drawn_for_many() -> None:
    assert sign_flip([1, 1, 1, 1, 1]) == pytest.approx(2 / 32)
    assert sign_flip([1, -1, 0]) == sign_flip([0, 0]) == sign_flip([]) == 1.0
    for up, down in ((9, 3), (40, 20)):  # McNemar's exact test, by its formula
        n = up + down
        exact = min(1.0, 2 * sum(math.comb(n, k) for k in range(down + 1)) / 2**n)
        assert sign_flip([1] * up + [-1] * down) == pytest.approx(exact, rel=0.15)
    assert sign_flip([1] * 200) == pytest.approx(1 / 20_001)


def test_five_answers_about_one_person_are_not_five_pieces_of_evidence() -> None:
    """Where nothing is true, one test in twenty says p < 0.05: of persons so, of their answers taken for apart far more often."""
    random = np.random.default_rng(0)
    grouped = apart = 0
    for _ in range(300):
        people = random.choice([-1.0, 1.0], size=12)
        values, groups = np.repeat(people, 5), np.repeat(np.arange(12), 5).tolist()
        grouped += sign_flip(values, groups) < 0.05
        apart += sign_flip(values) < 0.05
    assert grouped / 300 < 0.09
    assert apart / 300 > 0.3
