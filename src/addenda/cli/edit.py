"""`addenda edit`: facts written into a module at once, and which of them hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from addenda.cli import options as o
from addenda.cli import written as w
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.working import working


def edit(
    name: Annotated[str, typer.Argument(help="The new module's name.")],
    edits: Annotated[
        Path,
        typer.Option("--edits", help="Facts: JSON lines with subject, prompt, target_true, target_new; plain or .gz."),
    ],
    write: Annotated[
        str, typer.Option("--write", help="The rule: pmet, 'pmet(lam=100)', ...; `addenda methods write` lists them.")
    ] = "pmet",
    general: Annotated[
        str, typer.Option("--general", help=f"Text on which little is to change: {o.TEXTS}.")
    ] = "general_train",
    tokens: Annotated[int, tokens_option("--tokens", "Tokens of it that are read.")] = 50_000,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many facts, evenly over the file.")] = None,
    out: w.Out = None,
    seed: o.Seed = 0,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Write facts into a new module at once, and ask for them with the module off and on.

    A fact is a prompt that names its subject, and the answer that shall come after it. The base stays as it is.

    Example: `addenda edit facts --edits facts.jsonl`
    """
    with answering(json) as answer:
        import addenda

        place = Path("runs") / name if out is None else out
        w.check_place(place, False)
        loaded = o.load_base(base, dtype, device)
        with working("editing", "nothing was written"):
            report = addenda.edit(
                loaded, name, edits, write=write, general=general, tokens=tokens, limit=limit, seed=seed, out=place
            )
        answer.give(report.as_dict(), lambda console: w.show(console, str(report), report.out))
