"""Rows, steps and validations that fit: from counts alone."""

from __future__ import annotations

import pytest

from addenda.writing.budget import LEAST, SCORED, STEPS, rows_for, validations_for

LARGE = 8 * 512


@pytest.mark.parametrize(
    ("tokens", "longest", "smallest", "wanted"),
    [
        (200_000, 512, LARGE, (8, 512)),  # as ever
        (10**9, 512, LARGE, (8, 512)),
        (200_000, 256, LARGE, (8, 256)),  # the base reads no more
        (100_000, 512, LARGE, (4, 512)),
        (20_000, 512, 1922, (2, 128)),  # a handbook: 4 steps of 8 x 512 before
        (10_000, 512, LARGE, (2, 64)),
        (3_000, 512, LARGE, (2, 64)),  # no fewer
        (10**6, 512, 1922, (8, 128)),  # eight rows of a text at the least
        (10**6, 512, 100, (8, 16)),
        (10**6, 100, LARGE, (8, 100)),
    ],
)
def test_rows_fit_the_tokens_the_text_and_the_base(
    tokens: int, longest: int, smallest: int, wanted: tuple[int, int]
) -> None:
    rows, length = rows_for(tokens, longest=longest, smallest=smallest)
    assert (rows, length) == wanted
    assert tokens // (rows * length) >= STEPS or (rows, length) == (2, 64)


def test_what_was_given_stays() -> None:
    assert rows_for(20_000, longest=512, smallest=1922, rows=8, length=512) == (8, 512)
    assert rows_for(20_000, longest=512, smallest=LARGE, rows=8) == (8, 64)  # 39 steps: no fewer rows to be had
    assert rows_for(20_000, longest=512, smallest=LARGE, length=200) == (2, 200)
    assert rows_for(400_000, longest=512, smallest=LARGE, accumulate=4) == (4, 512)
    assert rows_for(3_000, longest=512, smallest=LARGE, processes=4)[0] == 4


def cost(tokens: int, modules: int, texts: int, every: int, steps: int, scored: int) -> float:
    """Share of the training's time, where a scored token costs SCORED of a trained one."""
    count = -(-steps // every)
    return SCORED * scored * texts * (count * modules + 1) / (tokens * modules)


@pytest.mark.parametrize("tokens", [20_000, 60_000, 100_000, 300_000, 2_000_000, 10**8])
@pytest.mark.parametrize("texts", [1, 2, 3])
@pytest.mark.parametrize("modules", [1, 2])
def test_validations_cost_a_tenth_at_most(tokens: int, texts: int, modules: int) -> None:
    steps = tokens // 512
    found = validations_for(steps, tokens, modules=modules, texts=texts)
    assert found.tokens is not None
    least = found.tokens == LEAST and found.count == 1  # fewer would be of too few documents
    assert least or cost(tokens, modules, texts, found.every, steps, found.tokens) <= 0.1
    assert not least or tokens <= 60_000
    assert found.count == -(-steps // found.every)
    assert LEAST <= found.tokens <= 50_000
    if tokens >= 300_000:
        assert found.count >= 2  # one on the way and one at the end
        assert found.tokens >= 1_000


def test_the_case_that_took_25_times_the_training() -> None:
    # 60,000 tokens, three texts: ten validations of 50,000 tokens of each before
    found = validations_for(60_000 // 1024, 60_000, modules=1, texts=3)
    assert (found.count, found.tokens) == (3, 800)
    assert cost(60_000, 1, 3, found.every, 60_000 // 1024, 800) <= 0.1


def test_a_long_run_has_ten_of_50_000_as_ever() -> None:
    found = validations_for(20_000, 80_000_000, modules=1, texts=2)
    assert (found.count, found.tokens, found.every) == (10, 50_000, 2_000)


def test_what_was_asked_for_stays_here_too() -> None:
    found = validations_for(100, 50_000, modules=1, texts=2, asked=9_000, every=10)
    assert (found.every, found.tokens, found.count) == (10, 9_000, 10)
    found = validations_for(100, 50_000, modules=1, texts=2, asked=None)
    assert (found.tokens, found.count) == (None, 10)
    found = validations_for(100, 50_000, modules=1, texts=2, asked=9_000)  # too dear for more than the last
    assert (found.every, found.tokens) == (100, 9_000)
    found = validations_for(100, 50_000, modules=1, texts=2, every=10)
    assert (found.every, found.tokens) == (10, LEAST)
    assert validations_for(100, 50_000, modules=1, texts=2, patience=True).count == 10


def test_a_run_that_is_hardly_one_is_validated_at_its_end() -> None:
    found = validations_for(8, 1024, modules=1, texts=2)
    assert (found.every, found.tokens, found.count) == (8, LEAST, 1)
