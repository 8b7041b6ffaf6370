"""`addenda evaluate`: held-out loss of named text sets, modules on and off, with paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.measuring.evaluate import Evaluation
    from addenda.scoring import Difference, Score


def evaluate(
    on: Annotated[
        list[str],
        typer.Option("--on", help=f"A text set, NAME=FILE: {o.TEXTS}. Repeatable."),
    ],
    modules: o.Modules = None,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    length: Annotated[int | None, typer.Option("--length", min=2, help="Tokens read at a time; default 512.")] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, help="Tokens scored in each window; default: all.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="Score this many of each set; default: all.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option("--batch-tokens", min=1, help="Tokens in one forward pass.")] = 4096,
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Held-out loss in nats per token, with modules and without, paired document by document.

    A probe first proves that the selected modules really run. Intervals are 95%, by bootstrap over documents.

    Example: `addenda evaluate --plug runs/pubmed --on medical=pubmed_valid --on general=general_valid`
    """
    with answering(json) as answer:
        from addenda.measuring.evaluate import evaluate as score

        texts = o.named_texts(on)
        loaded = o.load(base, dtype, device, plug, modules)
        found = score(
            loaded.base, texts, loaded.selected, length=length, stride=stride, tokens=tokens, batch_tokens=batch_tokens
        )
        answer.give(found.as_dict(), lambda out: show(out, found))


def show(out: Console, found: Evaluation) -> None:
    """One table."""
    from rich.table import Table

    label = o.selection_text(found.modules)
    table = Table(title=f"Held-out loss, nats per token [95% interval]: {found.base}", title_justify="left")
    columns = ["text", "documents", "tokens", "base", "perplexity", "bits/byte"]
    if found.modules:
        columns += [f"with {label}", "change (below 0: learned)", f"perplexity with {label}"]
    for column in columns:
        table.add_column(column, justify="left" if column == "text" else "right")
    for one in found.texts:
        off, on, change = one.off, one.on, one.difference
        row = [
            one.name,
            f"{off.documents:,}",
            f"{off.tokens:,}",
            _interval(off),
            f"{off.perplexity:,.2f}",
            f"{off.bits_per_byte:.3f}",
        ]
        if on is not None and change is not None:
            row += [
                _interval(on),
                _interval(change, "+"),
                f"{on.perplexity:,.2f}",
            ]
        table.add_row(*row)
    out.print(table)
    for probe in found.canary:
        if probe.finding != "on":
            why = "its card has no record of training" if probe.finding == "fresh" else "its gate left the probe alone"
            out.print(f"'{probe.name}' ran at all {probe.sites} sites and changed nothing there: {why}.")


def _interval(found: Score | Difference, sign: str = "") -> str:
    """A number with its interval, which one document alone does not have."""
    if found.documents < 2:
        return f"{found.nats:{sign}.4f}"
    return f"{found.nats:{sign}.4f} \\[{found.low:{sign}.4f}, {found.high:{sign}.4f}]"
