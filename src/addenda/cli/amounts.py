"""Numbers of tokens as people write them: 20000, 20_000, 20k, 1.5M, 1e5."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import typer

_WRITTEN = re.compile(r"(\d+(?:[_,]\d{3})*|\d+)(\.\d+)?(e\d{1,2})?\s*([km]?)", re.IGNORECASE)
_TIMES = {"": 1, "k": 10**3, "m": 10**6}


def amount(value: str | int) -> int:
    """A whole number from what was written.

    Raises:
        ValueError: it is none.
    """
    text = str(value).strip()
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no number of tokens; write 20000, 20_000, 20k or 1.5M")
    whole, part, power, unit = match.groups(default="")
    number = Decimal(re.sub("[_,]", "", whole) + part + power) * _TIMES[unit.lower()]
    if number != int(number):
        raise ValueError(f"'{text}' is {number.normalize():f} tokens, and a number of tokens is whole")
    if number >= 2**63:
        raise ValueError(f"'{text}' is more tokens than can be counted")
    return int(number)


def tokens(flag: str, help: str, least: int = 1, **more: Any) -> Any:
    """An option of a verb that takes a number of tokens, at least so many."""
    return typer.Option(flag, help=help, parser=_parser(least), metavar="TOKENS", **more)


def _parser(least: int) -> Callable[[str | int], int]:
    def parse(value: str | int) -> int:
        try:
            number = amount(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if number < least:
            raise typer.BadParameter(f"{number} is too few; at least {least}")
        return number

    return parse
