"""Answers: tables for people on standard output, or exactly one line of JSON; everything else on standard error."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


#: columns of what is written to no terminal
WIDTH = 100


class Answer:
    """What a verb has to say: given once, told when the work is done."""

    def __init__(self) -> None:
        self.data: Mapping[str, Any] = {}
        self.show: Callable[[Console], None] | None = None
        self.failed: str | None = None

    def give(self, data: Mapping[str, Any], show: Callable[[Console], None], failed: str | None = None) -> None:
        """The answer as plain data and as something to print; `failed` says which check failed."""
        self.data, self.show, self.failed = data, show, failed


@contextmanager
def answering(as_json: bool) -> Iterator[Answer]:
    """Work inside the block, answer after it. With `as_json` whatever else prints goes to standard error.

    Raises:
        typer.Exit: with code 1, where a check failed.
    """
    answer = Answer()
    _quiet()
    if as_json:
        with redirect_stdout(sys.stderr):
            yield answer
        print_json(answer.data)
    else:
        yield answer
        if answer.show is not None:
            answer.show(console())
    if answer.failed is not None:
        print_error(answer.failed)
        raise typer.Exit(1)


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, and `WIDTH` columns wide where there is none."""
    from rich.console import Console
    from rich.segment import Segment

    class Harmless(Console):
        """Cards come from anywhere: what would steer the terminal is shown, not sent."""

        def render(self, *args: Any, **more: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **more):
                plain = segment.control or segment.text.replace("\n", "").isprintable()
                yield segment if plain else Segment(harmless(segment.text), segment.style)

    out = Harmless(stderr=stderr, highlight=False)
    return out if out.is_terminal else Harmless(stderr=stderr, highlight=False, width=WIDTH)


def harmless(text: str) -> str:
    """A text in which control characters stand as their escapes, as Python writes them."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def print_json(data: Mapping[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(plain(data), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(message: str) -> None:
    """One sentence on standard error."""
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(message, err=True)


def note(message: str) -> None:
    """A remark on standard error."""
    typer.secho(message, dim=True, err=True)


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal whether to go on, unless that was said beforehand.

    Raises:
        AddendaError: the answer is no, or there is no terminal to ask on.
    """
    from addenda.core.errors import AddendaError

    if yes:
        return
    if not sys.stdin.isatty():
        raise AddendaError(f"{question} There is no terminal to ask on: --yes goes on without asking; nothing was done")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AddendaError("not confirmed; nothing was done")


def plain(value: Any) -> Any:
    """Plain data for JSON: paths as text, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _quiet() -> None:
    """No chatter of libraries; warnings in one line, without source code."""
    for library in ("torchao", "torch.utils._pytree", "matplotlib"):
        logging.getLogger(library).setLevel(logging.ERROR)

    def shown(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        note(f"{'warning' if issubclass(category, UserWarning) else category.__name__}: {message}")

    warnings.showwarning = shown
