"""What `addenda evaluate` takes from the measures, and the tables of what they found."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option

if TYPE_CHECKING:
    from addenda.measuring.conducting import measure

#: types of what flags take
TYPES: dict[str, Any] = {
    "text": str | None, "file": Path | None, "texts": list[str] | None, "named": list[str] | None, "switch": bool,
}  # fmt: skip


def options_of(flags: Mapping[str, measure.Flag], own: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose parameters are options, by name; without those whose flag is one of the verb's own."""
    taken = {*inspect.signature(own).parameters, "help"}
    kept = {
        name: flag
        for name, flag in flags.items()
        if not taken & {name, (flag.name or name).lstrip("-").replace("-", "_")}
    }

    def given(**values: Any) -> dict[str, Any]:
        return values

    given.__annotations__ = {name: _annotated(name, flag) for name, flag in kept.items()}
    given.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=kept[name].default, annotation=annotation)
            for name, annotation in given.__annotations__.items()
        ]
    )
    return given


def _annotated(name: str, flag: measure.Flag) -> Any:
    word, help = flag.name or f"--{name.replace('_', '-')}", flag.help
    if flag.takes == "tokens":
        return Annotated[int | None, tokens_option(word, help, flag.least)]
    if flag.takes == "number":
        return Annotated[int | None, typer.Option(word, help=help, min=flag.least)]
    more = {"named": f", NAME=FILE: {o.TEXTS}. Repeatable.", "texts": " Repeatable."}.get(flag.takes, "")
    return Annotated[TYPES[flag.takes], typer.Option(word, help=help + more)]


def values(given: Mapping[str, Any], flags: Mapping[str, measure.Flag]) -> dict[str, Any]:
    """What the command line gave, as `addenda.evaluate` takes it; nothing for what was not given.

    Raises:
        AddendaError: two texts have one name.
    """
    forms: dict[str, Callable[[Any], Any]] = {"named": o.named_texts, "texts": tuple}
    return {
        name: forms[flags[name].takes](value) if flags[name].takes in forms else value
        for name, value in given.items()
        if value not in (None, False, [])
    }


def table_of(title: str, *columns: str) -> Table:
    """An empty table: words to the left in its first column, numbers to the right in all others."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def drawn(told: measure.Table) -> Table:
    """A measure's table, as it is drawn on a terminal."""
    table = table_of(escape(told.title), *map(escape, told.columns))
    for column in table.columns if told.prose else ():
        column.justify, column.overflow = "left", "fold"
    for row in told.rows:
        table.add_row(*map(escape, row))
    table.caption = None if told.caption is None else escape(told.caption)
    return table
