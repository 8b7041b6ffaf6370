"""What other packages bring: the methods behind their entry points, read once; what one of them breaks stays its own."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import warnings
from collections.abc import Collection, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from importlib.metadata import EntryPoint, distributions, entry_points
from types import ModuleType
from typing import Any, cast

from addenda.core.method import Method

#: the entry point group by which other packages bring methods: each entry point is a module, or a class in one
GROUP = "addenda.methods"


@dataclass(frozen=True)
class Brought:
    """What one entry point brings: `whose` it is, in words, its methods, and what is wrong there, a sentence each.

    `package` is its package with the version; None where it is no package's.
    """

    whose: str
    methods: tuple[type[Method], ...] = ()
    wrong: tuple[str, ...] = ()
    package: str | None = None


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: what was read so far, by what the entry point says and where its package lies
_READ: dict[tuple[str, ...], Brought] = {}


def brought(stages: Collection[str]) -> list[Brought]:
    """What every entry point of the group brings to some stages; what is wrong with one is told once, as a warning."""
    found: list[Brought] = []
    for point in _points():
        package = "" if point.dist is None else f" of the package '{point.dist.name}'"
        where = "" if point.dist is None else str(point.dist.locate_file(""))
        key = (point.name, point.value, package, where)
        if key not in _READ:
            read = _read(point, f"the entry point '{point.name}' (group {GROUP}){package}", stages)
            _READ[key] = replace(
                read, package=None if point.dist is None else f"{point.dist.name} {point.dist.version}"
            )
            for wrong in _READ[key].wrong:
                warnings.warn(f"{_READ[key].whose}: {wrong}; it is left out", UserWarning, stacklevel=2)
        found.append(_READ[key])
    return found


def _points() -> list[EntryPoint]:
    """The entry points of the group; of packages whose list of them can be read."""
    try:
        return list(entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - one package's list is malformed, and takes all others along
        found: list[EntryPoint] = []
        for package in distributions():
            try:
                found += [point for point in package.entry_points if point.group == GROUP]
            except Exception:  # noqa: BLE001
                name = package.metadata["Name"]
                warnings.warn(f"the entry points of the package '{name}' cannot be read", UserWarning, stacklevel=3)
        return found


def _read(point: EntryPoint, whose: str, stages: Collection[str]) -> Brought:
    try:
        given: Any = point.load()
    except ModuleNotFoundError as error:
        return Brought(whose, wrong=(f"'{point.value}' needs the module '{error.name}', which is not installed",))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever somebody else's code does on import
        said = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder="...")
        return Brought(whose, wrong=(f"'{point.value}' cannot be loaded ({said})",))
    if isinstance(given, type):
        asked = [given]
    elif isinstance(given, ModuleType):
        asked = list(_methods_in(given))
    else:
        asked = []
    if not asked:
        return Brought(whose, wrong=(f"'{point.value}' is neither a method's class nor a module that defines one",))
    told = {one: wrong for one in asked if (wrong := _wrong_with(one, stages))}
    return Brought(
        whose,
        tuple(cast("type[Method]", one) for one in asked if one not in told),
        tuple(f"{one.__name__} {wrong}" for one, wrong in told.items()),
    )


def _methods_in(module: ModuleType) -> Iterator[type]:
    """The methods that a module defines: nothing that it imports, and no contract or half that others there stand on."""
    own = [
        value
        for value in dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
        if value.__module__ == module.__name__ and issubclass(value, Method)
    ]
    return (one for one in own if not any(other is not one and issubclass(other, one) for other in own))


def _wrong_with(given: type, stages: Collection[str]) -> str | None:
    """What keeps a class from being a method, to be read after its name; None: nothing."""
    if not issubclass(given, Method) or getattr(given, "stage", None) not in stages:
        return f"stands at none of the stages {', '.join(stages)}"
    if not is_dataclass(given) or not cast("Any", given).__dataclass_params__.frozen:
        return "is no frozen dataclass"
    if not _NAME.fullmatch(given.called()) or given.called() in stages:  # it stands before the names of side tensors
        return f"is called '{given.called()}'; a name has letters, digits, - and _, and is no stage's"
    if inspect.isabstract(given):
        return f"lacks {', '.join(sorted(given.__abstractmethods__))}"
    for option in fields(given):
        try:
            json.dumps(default_of(option))
        except Exception:  # noqa: BLE001 - what a default's factory raises too
            return f"has an option '{option.name}' whose default is no plain value, which no card could keep"
    return None


def default_of(option: Field[Any]) -> Any:
    """The default of an option; None where it has none."""
    if option.default_factory is not MISSING:
        return option.default_factory()
    return None if option.default is MISSING else option.default
