"""Finds methods by name: one file in a folder is one method, its class found by convention, never by a list."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, known


@cache
def kinds() -> dict[str, type[Kind]]:
    """Every kind by its class name, from the files of `addenda.kinds`."""
    package = importlib.import_module("addenda.kinds")
    classes: dict[str, type[Kind]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"addenda.kinds.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Kind) and is_dataclass(value):
                classes[value.__name__] = value
    return dict(sorted(classes.items()))


def kind_named(name: str) -> type[Kind]:
    """The kind class for `NeutralResidues`, `neutral_residues` or `neutral-residues`.

    Raises:
        AddendaError: no such kind; the message lists those there are.
    """
    plain = re.sub(r"[-_]", "", name).lower()
    for class_name, kind in kinds().items():
        if class_name.lower() == plain:
            return kind
    raise AddendaError(f"no kind is called '{name}'; the kinds are {known(name, kinds())}")


def build_kind(name: str, options: dict[str, Any]) -> Kind:
    """The kind `name` with `options`, checked.

    Raises:
        AddendaError: no such kind, an unknown option, or a value of the wrong type.
    """
    kind = kind_named(name)
    assert is_dataclass(kind)
    allowed = {field.name for field in fields(kind)}
    for option in options:
        if option not in allowed:
            raise AddendaError(f"{kind.__name__} has no option '{option}'; its options are {known(option, allowed)}")
    try:
        return TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in error.errors())
        raise AddendaError(f"{kind.__name__}: {wrong}") from None


def plain_options(kind: Kind) -> dict[str, Any]:
    """The options of a kind as JSON gives them back: lists for tuples."""
    options = options_of(kind)
    return options | {
        name: list(cast("tuple[Any, ...]", value)) for name, value in options.items() if isinstance(value, tuple)
    }


def options_of(kind: Kind) -> dict[str, Any]:
    """The options of a kind as plain data, for a card."""
    assert is_dataclass(kind)
    return {field.name: getattr(kind, field.name) for field in fields(kind)}
