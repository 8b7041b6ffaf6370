"""Foretold: what an evaluation will read, and about how long that takes, for whoever watches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from addenda.measuring.conducting.measure import Reading
from addenda.plug.scoring import pace_of
from addenda.telling.progress import about
from addenda.text.texts import Texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: records of a text whose length stands for all others' where they are many
RECORDS = 500
#: characters of a token, where nothing is tokenized to find out; tokens of a question with one of its answers
CHARACTERS, QUESTION = 4, 60
#: what a token that is compared or written costs beside one that is scored
COMPARED = 1.5


def foretold(base: Base, readings: Iterable[Reading], weights: Mapping[str, float]) -> tuple[int, str]:
    """About how many tokens will be read, modules off and on counted, and the plan in words."""
    readings = list(readings)
    words = ", ".join(
        one.what + (f" (about {two_digits(one.tokens):,} tokens)" if one.tokens else "") for one in readings
    )
    pace, cost = pace_of(base), sum(one.each * one.tokens for one in readings)
    both = "with modules off and on" if weights else "of the base alone"
    return sum(one.tokens for one in readings), (
        f"evaluating {words}, {both}: about {about(cost / pace)} at {pace:,.0f} tokens/s, as timed on this machine just now"
    )


def length_of(source: Texts, most: int | None) -> int:
    """About how many tokens a text has, from its first records where it has many."""
    characters = read = 0
    for record in islice(source, RECORDS):
        characters += len(record["text"]) if "text" in record else len(str(record))
        read += 1
        if most is not None and characters > CHARACTERS * most:
            break
    count = None if read < RECORDS else source.count()
    return max(1, characters // CHARACTERS * (1 if count is None else count // read))


def two_digits(value: int) -> int:
    """A number to two digits, for a plan."""
    digits = max(0, len(str(value)) - 2)
    return round(value / 10**digits) * 10**digits
