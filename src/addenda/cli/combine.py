"""`addenda combine`: make one module of several."""

# budget: the signature of `combine` is its command line
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import command, look, show_next
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.core.card import Card


def combine(
    modules: Annotated[
        list[str],
        typer.Argument(help="Folders or hub ids, two or more; FOLDER=0.7 gives a weight.", metavar="MODULE MODULE..."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the new module.")],
    method: Annotated[
        str,
        typer.Option("--method", help="How: `addenda methods combiner` lists them; options as in ties(density=0.2)."),
    ] = "mean",
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called.", show_default="the folder's name")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", help="The module that all of these were trained on from.", metavar="MODULE"),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help=f"Held-out text to score parents and result on, NAME=FILE: {o.TEXTS}. Repeatable."),
    ] = None,
    tokens: Annotated[int, tokens_option("--tokens", "Tokens of each text that are scored at most.")] = 20_000,
    subject: Annotated[
        str | None, typer.Option("--subject", help="For a fresh gate: text of all subjects.", metavar="TEXT")
    ] = None,
    replay: Annotated[
        str | None, typer.Option("--replay", help="For a fresh gate: general text.", metavar="TEXT")
    ] = None,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Make one module of several of one kind, options and base, and save it.

    mean is exact, and grows with the modules where a kind needs room (LoRA, side FFNs). ties keeps, at each place, those who
    agree; ota weighs each module's numbers by what they matter to it; ffa is for FFA-LoRAs of one seed. Modules behind gates of
    different fits take a fresh gate: give --subject and --replay.

    Example: `addenda combine runs/heart=0.7 runs/liver=0.3 --method "ties(density=0.2)" --out runs/organs`
    """
    with answering(json) as answer:
        import addenda
        from addenda.core.files import check_place
        from addenda.modulefile.storage import MEMBERS

        o.check_apart(out, start, *(weighed(given)[0] for given in modules))
        check_place(out, MEMBERS)
        loaded = o.load_base(base, dtype, device)
        weights: dict[str, float] = {}
        for given in modules:
            folder, weight = weighed(given)
            weights[o.plug_one(loaded, folder)] = weight
        began = None if start is None else loaded.plug(start, name=_free_name(loaded)).name
        with working("combining", "nothing was saved"):
            made = addenda.combine(
                loaded,
                weights,
                method,
                name=name or out.name,
                start=began,
                text=o.named_texts(text) or None,
                tokens=tokens,
                subject=subject,
                replay=replay,
            )
        saved = made.save(out)
        where = {"base": base, "dtype": dtype, "device": device}
        then = (
            look(saved, o.named(text[0])[1], where)
            if text
            else command("evaluate", "--plug", saved, "--neutrality", "general_valid", **where)
        )
        facts = {"name": made.name, "parameters": made.size(), "saved": str(saved), **told(made.card), "next": then}
        answer.give(facts, lambda console: show(console, facts, then))


def weighed(given: str) -> tuple[str, float]:
    """`FOLDER=0.7` in its two parts; the weight is 1 where there is none."""
    folder, _, number = given.rpartition("=")
    try:
        return (folder, float(number)) if folder else (given, 1.0)
    except ValueError:  # no weight: a folder with a name before it, or with such a sign in its own
        return given, 1.0


def _free_name(base: Any) -> str:
    """A name for the start that no module has."""
    name = "start"
    while name in base.modules:
        name += "-"
    return name


def told(card: Card) -> dict[str, Any]:
    """How it was made and what was measured, as plain data."""
    assert card.combined is not None
    plain = card.combined.model_dump(mode="json")
    return {"combined": plain, "measures": [measure.model_dump(mode="json") for measure in card.measures]}


def show(out: Console, facts: dict[str, Any], then: str) -> None:
    """What was made of what, what it gives beside its parents, and the command to go on with."""
    record = facts["combined"]
    parents = ", ".join(f"{part['name']}={part['weight']:g}" for part in record["modules"])
    method = record["method"]["name"]
    out.print(f"{facts['name']}: {method} of {parents}; {facts['parameters']:,} parameters", markup=False)
    if record["lost"] > 0:
        out.print(f"cut to its rank: {record['lost']:.1%} of the squares were lost", markup=False)
    for number, measure in enumerate(facts["measures"]):
        out.print(f"learned of {measure['on']}, nats per token off the base alone:", markup=False)
        for part in [*record["modules"], {"name": facts["name"], "measures": facts["measures"]}]:
            mine = part["measures"][number]
            between = "" if mine["low"] is None else f" ({mine['low']:+.4f} to {mine['high']:+.4f})"
            out.print(f"  {part['name']:<20} {mine['value']:+.4f}{between}", markup=False)
    show_next(out, then, saved=facts["saved"])
