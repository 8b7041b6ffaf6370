"""What the verbs that write share: `--set` pairs, the module to write into, errors in the command line's words."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli.amounts import amount
from addenda.cli.commands import show_next

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.core.method import Method
    from addenda.plug.base import Base


class Precision(StrEnum):
    """Arithmetic of a step."""

    FP32 = "fp32"
    BF16 = "bf16"


Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="An option of the kind, or a setting of the verb, e.g. width=64; an unknown one is answered with all there "
        "are. Repeatable.",
        metavar="KEY=VALUE",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="The module's folder; default: runs/NAME.")]
Arithmetic = Annotated[Precision, typer.Option("--precision", help="bf16: autocast.")]
Gate = Annotated[
    str | None,
    typer.Option(
        "--gate",
        help="What the module stands behind; `addenda methods gate` lists them.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]

Finish = Annotated[
    bool,
    typer.Option(
        "--finish", help="Save the module as the last checkpoint of an interrupted run has it; train no further."
    ),
]
KeepRun = Annotated[
    bool, typer.Option("--keep-run", help="Keep the checkpoints of a finished run too, not its log alone.")
]


def split(
    method: type[Method], given: list[str] | None, verb: str, settings: Iterable[str], typed: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`KEY=VALUE` pairs as options of a method and settings of a verb; a value is JSON where it can be read as such.

    Raises:
        AddendaError: a pair has no `=`, or its key is known to neither, or is `typed`: it has an option of its own.
    """
    from dataclasses import fields

    from addenda.core.errors import AddendaError, known

    options = {field.name for field in fields(method)}  # type: ignore[arg-type]
    untyped, typed = set(settings) - set(typed), set(typed)
    chosen: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for key, text in pairs(given):
        if key in typed:
            raise AddendaError(f"'{key}' has an option of its own; see addenda {verb} --help")
        if key not in options | untyped:
            raise AddendaError(
                f"--set: neither {method.called()} nor {verb} knows '{key}'; {method.called()} has {known(key, options)}; "
                f"{verb} has {known(key, untyped)}"
            )
        chosen[0 if key in options else 1][key] = _tokens(text) if key.endswith("tokens") else value_of(text)
    return chosen


def pairs(given: list[str] | None) -> Iterator[tuple[str, str]]:
    """The names and values of `KEY=VALUE` pairs.

    Raises:
        AddendaError: a pair has no `=`.
    """
    from addenda.core.errors import AddendaError

    for pair in given or []:
        key, mark, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not mark or not key:
            raise AddendaError(f"--set takes KEY=VALUE, e.g. extra=0.2; got '{pair}'")
        yield key, text


def settings(given: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` pairs as settings of a verb, which refuses those that it does not know."""
    return {key: _tokens(text) if key.endswith("tokens") else value_of(text) for key, text in pairs(given)}


def value_of(text: str) -> Any:
    """A value from the command line: JSON where it can be read as such (0.2, true, null, ["q_proj"]), else text."""
    try:
        return jsonlib.loads(text)
    except ValueError:
        return {"None": None, "True": True, "False": False}.get(text, text)


def check_text(corpus: Any) -> None:
    """Refuse a corpus that holds nothing, before a base is loaded for it.

    Raises:
        DataError: it is not there, cannot be read, or every record of it is empty.
    """
    from addenda.core.errors import DataError
    from addenda.text.texts import texts

    source = texts(corpus)
    if next(iter(source), None) is None:
        raise DataError(f"the corpus '{source.name}' is empty: there is no text in it")


def check_place(out: Path, again: bool) -> None:
    """Refuse a folder to save in that cannot be used, before a base is loaded; `again`: a run there is gone on with.

    Raises:
        AddendaError: it holds something else than a module, or beside it an earlier run.
    """
    from addenda.core import files
    from addenda.core.errors import AddendaError
    from addenda.modulefile.storage import MEMBERS
    from addenda.writing.asked import folder_of
    from addenda.writing.checkpoint import check_begin

    try:
        place = folder_of(out) or out
        files.check_place(place, MEMBERS)
        check_begin(place, again)
    except AddendaError as error:
        raise spoken(error) from None


def _tokens(text: str) -> Any:
    """A number of tokens as people write it; anything else is left for the setting to refuse."""
    try:
        return amount(text)
    except ValueError:
        return value_of(text)


def fresh(base: Base, name: str, kind: str, options: dict[str, Any], seed: int, gate: str | None = None) -> None:
    """Make the module, unless it was plugged.

    Raises:
        AddendaError: options or a gate were given for a module that has its own.
    """
    from addenda.core.errors import AddendaError
    from addenda.core.registry import build_kind

    if name not in base.modules:
        base.new(name, build_kind(kind, options), gate=gate, seed=seed)
    elif options or gate is not None:
        which = f"--set {next(iter(options))}=…" if options else f"--gate {gate}"
        raise AddendaError(f"module '{name}' was plugged with options of its own; leave out {which}")


def spoken(error: Exception) -> Exception:
    """An error of a writing verb in the words of the command line."""
    message = str(error)
    for python, words in {
        "the same call with resume=True": "the same command with --resume",
        "and the same call begins anew": "and the same command begins anew",
        "resume=True": "--resume",
        "finish=True": "--finish",
        "another out=": "another --out",
        "give replay= and a replay_share": "give --replay and a --replay-share",
        "give earlier=": "give --set earlier=",
    }.items():
        message = message.replace(python, words)
    error.args = (message, *error.args[1:])
    return error


def show(out: Console, report: str, folder: Path | None, *then: str) -> None:
    """What was done, and the commands to go on with."""
    out.print(report, markup=False)
    show_next(out, *then, saved=folder)
