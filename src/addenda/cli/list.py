"""`addenda list`: the modules on this machine, with what their cards say."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.modulefile.folders import ListedModule

#: columns from which a table holds all of it
WIDE = 100


def list(
    folders: Annotated[
        builtins.list[Path] | None,
        typer.Argument(help="Folders to look in; default: runs.", metavar="[FOLDER]...", show_default=False),
    ] = None,
    json: o.Json = False,
) -> None:
    """List modules: folder, kind, gate, base, size, tokens trained on, nats learned and forgot, day made.

    Example: `addenda list runs`
    """
    with answering(json) as answer:
        from addenda.modulefile.folders import list_modules

        listed = list_modules(*(folders or ()))
        data = {"modules": [module.as_dict() for module in listed]}
        where = ", ".join(map(str, folders or [Path("runs")]))
        answer.give(data, lambda out: show(out, listed, where))


def show(out: Console, listed: Sequence[ListedModule], where: str) -> None:
    """A line a module, under its path, with its name where that is another; what cannot be read is told with its reason."""
    from rich.table import Table
    from rich.text import Text

    from addenda.core.card import ENOUGH
    from addenda.telling.changes import counted

    readable = [module for module in listed if module.wrong is None]
    if readable:
        title = f"{counted(len(readable), 'module')} under {where}"
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("module", "kind", "gate", "base"):
            table.add_column(column, overflow="fold")
        for column in ("size", "trained", "learned", "forgot"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("made", no_wrap=True)
        for module in readable:
            named = "" if module.path.name == module.name else f" ({module.name})"
            words = (f"{module.path}{named}", module.kind, module.gate or "", module.base)
            changes = (nats(module.gain, module.gain_n), nats(module.forgot, module.forgot_n))
            numbers = (size(module.bytes), tokens(module.tokens), *changes)
            table.add_row(*map(Text, words), *numbers, module.created[:10])
        if out.width >= WIDE:
            out.print(table)
        else:
            out.print(title, markup=False, style="italic")
            for module in readable:
                block(out, module)
        if any(n is not None and n < ENOUGH for module in readable for n in (module.gain_n, module.forgot_n)):
            out.print(f"? on fewer than {ENOUGH} documents: too few to rely on; addenda evaluate --save measures more")
    if not listed:
        out.print(f"no module under {where}; addenda train makes one", markup=False)
    for module in listed:
        if module.wrong is not None:
            out.print(module.wrong, markup=False, soft_wrap=True)


def block(out: Console, module: ListedModule) -> None:
    """A module in some lines, where a table would break its words."""
    named = "" if module.path.name == module.name else f" ({module.name})"
    gated = f", {module.gate} gate" if module.gate else ""
    out.print(f"{module.path}{named}", markup=False, soft_wrap=True, style="bold")
    out.print(
        f"  {module.kind}{gated}, for {module.base}; {size(module.bytes)}, made {module.created[:10]}", markup=False
    )
    told = [f"trained on {tokens(module.tokens)} tokens" if module.tokens else "not trained"]
    told += [f"learned {nats(module.gain, module.gain_n)}"] if module.gain is not None else []
    told += [f"forgot {nats(module.forgot, module.forgot_n)}"] if module.forgot is not None else []
    out.print(f"  {', '.join(told)}", markup=False)


def size(count: int) -> str:
    """Bytes in the unit that fits."""
    units = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))
    return next((f"{count / unit:.1f} {name}" for unit, name in units if count >= unit), f"{count} B")


def tokens(count: int) -> str:
    """A number of tokens in short."""
    units = ((10**6, "M"), (10**3, "k"))
    return next((f"{count / unit:.3g}{name}" for unit, name in units if count >= unit), f"{count or ''}")


def nats(value: float | None, documents: int | None = None) -> str:
    """A change in nats per token, with a mark where too few documents are behind it; nothing where it was not measured."""
    from addenda.core.card import ENOUGH

    doubtful = documents is not None and documents < ENOUGH
    return "" if value is None else f"{value:+.3f}{' ?' if doubtful else ''}"
