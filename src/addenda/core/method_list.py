"""The list of methods: of every stage, what each is for, where it comes from and what it takes."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, cast

from addenda.core.brought import default_of
from addenda.core.errors import AddendaError
from addenda.core.method import Method
from addenda.core.plain import Plain
from addenda.core.registry import STAGES, methods, options_of


@dataclass(frozen=True)
class ListedMethod(Plain):
    """One method: stage and name, what it is for in a line, its source, what it did in our hands, options with defaults."""

    stage: str
    name: str
    about: str
    source: str
    measured: str
    options: dict[str, Any]


def list_methods(stage: str | None = None) -> list[ListedMethod]:
    """Every method there is, of one stage or of all: those of this package, and those that other packages bring.

    Raises:
        AddendaError: there is no such stage; says which there are.
    """
    stages = STAGES if stage is None else (stage,)
    return [_listed(method) for name in stages for method in methods(name).values()]


def _listed(method: type[Method]) -> ListedMethod:
    text = inspect.cleandoc(method.__doc__ or "")
    about = " ".join(text.split("\n\n")[0].split())
    options = {field.name: default_of(field) for field in fields(cast("Any", method))}
    with suppress(TypeError, ValueError, AddendaError):  # what the default stands for, where it is worked out
        options |= options_of(method())
    told = {name: _paragraph(text, name) for name in ("source", "measured")}
    return ListedMethod(method.stage, method.called(), about, **told, options=options)


def _paragraph(text: str, name: str) -> str:
    """What a docstring says after `Source:` or `Measured:`, in one line; empty where it does not."""
    found = re.search(rf"^{name.capitalize()}: (.*?)(?=\n\n|\Z| Differs:)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""
