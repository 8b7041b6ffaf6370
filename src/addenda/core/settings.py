"""Settings that a call takes by name: frozen records, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from addenda.core.errors import AddendaError, known
from addenda.core.registry import check_flags

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """A record of settings; what its numbers may be, it says in a table."""

    #: what decides nothing that is found, and is left out of `plain`
    free: ClassVar[frozenset[str]] = frozenset()
    #: the least that a number may be, where it is one; and which are sizes without a sign, and which are shares
    least: ClassVar[Mapping[str, int]] = {}
    sizes: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, least in self.least.items():
            value = getattr(self, name)
            self.check(value is None or value == "auto" or value >= least, name, f"at least {least}")
        for name in self.sizes:
            value = getattr(self, name)
            self.check(value is None or 0 <= value < math.inf, name, "not negative, and finite")
        for name in self.shares:
            self.check(0 <= getattr(self, name) <= 1, name, "a share from 0 to 1")

    def check(self, holds: bool, name: str, wanted: str) -> None:
        """Refuse a setting unless `holds`.

        Raises:
            AddendaError: it does not; names the setting.
        """
        if not holds:
            raise AddendaError(f"setting '{name}' must be {wanted}; got {getattr(self, name)!r}")

    def plain(self) -> dict[str, Any]:
        """The settings that decide what is found, as plain data: for cards and checkpoints."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.free}


def checked(record: type[T], verb: str, given: Mapping[str, Any]) -> T:
    """The record of a verb's settings from keywords.

    Raises:
        AddendaError: there is no such setting (with the nearest name), or a value has the wrong type or range.
    """
    names = [f.name for f in fields(cast("Any", record))]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise AddendaError(f"{verb} has no setting '{unknown[0]}'; its settings are {known(unknown[0], names)}")
    try:
        made = TypeAdapter(record).validate_python(dict(given))
    except ValidationError as error:
        wrong = "; ".join(
            (f"'{'.'.join(map(str, e['loc']))}': " if e["loc"] else "") + e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        )
        raise AddendaError(f"settings of {verb}: {wrong}") from None
    check_flags(made, given, lambda name: f"setting '{name}'")
    return made
