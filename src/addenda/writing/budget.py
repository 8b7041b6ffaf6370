"""The budget of a run: rows, steps and validations that fit its tokens and texts, from counts alone and never from a clock.

A clock would make a resumed run another one: what is decided here is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

#: steps that a run should have, where its tokens allow
STEPS = 48
#: rows of a pass and tokens of a row, the largest first; the first that gives STEPS is taken
SIZES = ((8, 512), (4, 512), (4, 256), (4, 128), (2, 128), (2, 64))
#: a row is at most this share of the smallest text: one that is read as a few long rows is read in one order
ROWS_OF_A_TEXT = 8
SHORTEST = 16
#: what a scored token costs, where one that is trained on costs 1 (measured on two bases: 0.45 to 0.6)
SCORED = 0.6
#: share of the training that all validations together may cost
SHARE = 0.1
#: validations at most; tokens of each text, at most and at least: of fewer no five documents are read, and there is no interval
VALIDATIONS = 10
MOST, LEAST = 50_000, 700


@dataclass(frozen=True)
class Validations:
    """When and on how much a run is validated: every so many `steps`, `tokens` of each text (None: all), `count` times."""

    every: int
    tokens: int | None
    count: int


def rows_for(
    tokens: int,
    *,
    longest: int,
    smallest: int,
    accumulate: int = 1,
    rows: int | None = None,
    length: int | None = None,
    processes: int = 1,
) -> tuple[int, int]:
    """Rows of a pass and tokens of a row; what was given stays.

    The first of `SIZES` that makes `STEPS` steps of the tokens, else the last: 8 rows of 512 from 196,608 tokens on.

    Args:
        tokens: to train on.
        longest: tokens that the base can read as a row.
        smallest: tokens of the smallest text, where it is smaller than 8 rows of 512.
        accumulate: passes of a step.
        rows: of a pass, where the user said so.
        length: of a row, where the user said so.
        processes: that share the rows of a pass.
    """
    fits = smallest // ROWS_OF_A_TEXT
    longest = min(longest, max(SHORTEST, 2 ** (fits.bit_length() - 1) if fits else 0))
    chosen = (0, 0)
    for many, long in SIZES:
        chosen = (rows or max(many, processes), length or min(long, longest))
        if tokens // (chosen[0] * chosen[1] * accumulate) >= STEPS:
            break
    return chosen


def validations_for(
    steps: int,
    tokens: int,
    *,
    modules: int,
    texts: int,
    asked: int | str | None = "auto",
    every: int | None = None,
    patience: bool = False,
) -> Validations:
    """Validations that together cost at most a tenth of the training; what was asked for stays.

    The bare base is scored once, each module every time. Where the run is long enough there are ten of 50,000 tokens of each
    text; a shorter one has fewer tokens, then fewer validations; one that is very short has one, at its end, of
    700 tokens, which may then cost more.

    Args:
        steps: of the run.
        tokens: that each module is trained on.
        modules: that are trained.
        texts: that are scored.
        asked: tokens of each text; None: all of it; "auto": what the budget allows.
        every: steps between validations; None: what the budget allows.
        patience: the run may end early, for which it is validated often.
    """
    budget = SHARE * tokens * modules / SCORED

    def share(count: int) -> float:
        return budget / (max(1, texts) * (count * modules + 1))

    if every is not None:
        count = -(-steps // every)
    elif isinstance(asked, int) and not patience:
        count = next((n for n in range(VALIDATIONS, 1, -1) if share(n) >= asked), 1)
    elif asked is None or patience:
        count = VALIDATIONS
    else:
        count = next((n for n in range(VALIDATIONS, 1, -1) if share(n) >= LEAST), 1)
    every = every or max(1, -(-steps // count))
    count = -(-steps // every)
    if asked != "auto":
        assert not isinstance(asked, str)
        return Validations(every, asked, count)
    return Validations(every, max(LEAST, min(MOST, int(share(count)) // 100 * 100)), count)
