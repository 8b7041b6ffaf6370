"""`addenda compress`: a smaller module from a large one, with what that costs on held-out text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import look, show_next
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.core.card import Measure


def compress(
    module: Annotated[str, typer.Argument(help="A module's folder, or a hub id.", metavar="MODULE")],
    method: Annotated[
        str, typer.Option("--method", help="How: ternary, 'svd(rank=4)', ...; `addenda methods compressor` lists them.")
    ],
    text: Annotated[str, typer.Option("--text", help=f"Held-out text of its subject: {o.TEXTS}.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the smaller module.")],
    at_most: Annotated[
        float | None, typer.Option("--at-most", min=0.0, help="Write nothing if it costs more nats per token.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            help="Text to fit to.",
            show_default="every second document of --text, which is not measured on",
        ),
    ] = None,
    tokens: Annotated[int, tokens_option("--tokens", "Tokens measured on at most.")] = 20_000,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Make a module smaller and save it beside the large one, its loss before and after on its card.

    Nothing is written where the result is no smaller, or costs more than `--at-most`. The gate stays as it is.

    Example: `addenda compress runs/pubmed --method ternary --text pubmed_valid --out runs/pubmed-small --at-most 0.02`
    """
    with answering(json) as answer:
        import addenda
        from addenda.core.files import check_place
        from addenda.modulefile.storage import MEMBERS

        o.check_apart(out, module)
        check_place(out, MEMBERS)
        loaded = o.load_base(base, dtype, device)
        name = o.plug_one(loaded, module)
        with working("compressing", "nothing was written"):
            made = addenda.compress(
                loaded, name, method, text=text, name=name, at_most=at_most, calibration=calibration, tokens=tokens
            )
        saved = made.save(out)
        then = look(saved, text, {"base": base, "dtype": dtype, "device": device})
        measures = made.card.measures
        facts = {
            "module": name,
            "kind": made.card.kind,
            "config": made.card.config,
            "method": (made.card.compressed or [{}])[-1],
            "measures": [measure.model_dump() for measure in measures],
            "saved": str(saved),
        }
        answer.give(facts | {"next": then}, lambda shown: show(shown, measures, saved, then))


def show(out: Console, measures: list[Measure], saved: Path, then: str) -> None:
    """Sizes, losses with their intervals, where it is, and the command to go on with."""
    told = {measure.name: measure for measure in measures}
    small, large = told["size"].value, told["size before compression"].value
    out.print(f"{large:,.0f} bytes to {small:,.0f}, {large / max(1.0, small):.1f} times smaller", markup=False)
    loss, cost = told["loss"], told["cost of compression"]
    bare = "" if loss.reference is None else f", the base alone {loss.reference:.4f}"
    out.print(
        f"loss on {loss.on}: {told['loss before compression'].value:.4f} before, {loss.value:.4f} after{bare}",
        markup=False,
    )
    between = "" if cost.low is None or cost.high is None else f" (95%: {cost.low:+.4f} to {cost.high:+.4f})"
    out.print(f"cost: {cost.value:+.4f} nats per token{between}", markup=False)
    show_next(out, then, saved=saved)
