"""`addenda methods`: every method by stage, with what it is for and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.core.method_list import ListedMethod


def methods(
    stage: Annotated[
        str | None,
        typer.Argument(help="Of one stage alone, such as kind or gate.", show_default=False),
    ] = None,
    json: o.Json = False,
) -> None:
    """List the methods there are: of this package, and of packages that bring some.

    An optimizer is chosen with `train --set optimizer=galore`, a gate with `--gate document`, a kind with `--kind LoRA`.

    Example: `addenda methods optimizer`
    """
    with answering(json) as answer:
        from addenda.core.method_list import list_methods

        listed = list_methods(stage)
        answer.give({"methods": [method.as_dict() for method in listed]}, lambda out: show(out, listed))


def show(out: Console, listed: Sequence[ListedMethod]) -> None:
    """A paragraph for each: stage and name, what it is for, its options, its source."""
    from rich.text import Text

    for method in listed:
        out.print(Text.assemble((f"{method.stage} ", "dim"), (method.name, "bold"), f"  {method.about}"))
        if method.options:
            told = ", ".join(f"{name}={value!r}" for name, value in method.options.items())
            out.print(Text(f"  {told}", style="dim"))
        for line in (method.source, method.measured):
            if line:
                out.print(Text(f"  {line}", style="dim"))
