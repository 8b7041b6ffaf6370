"""`addenda memorize`: read a text once, and carry it from then on in a memory beside the frozen base."""

# budget: the signature of `memorize` is its command line
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli import written as w
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import look

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: settings of `memorize` that have an option of their own
TYPED = frozenset(
    "window chunk lr passes replay local published seed precision baseline checkpoint_every keep_run licence".split()
)


def memorize(
    name: Annotated[str, typer.Argument(help="The memory's name: a new one, or one that --plug brought.")],
    text: Annotated[str, typer.Option("--text", help=f"The text: {o.TEXTS}.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="What kind of memory; `addenda methods kind` lists them; default: the Locas that fits the base.",
        ),
    ] = None,
    set_: w.Pairs = None,
    gate: w.Gate = None,
    out: w.Out = None,
    resume: w.Resume = False,
    finish: w.Finish = False,
    keep_run: w.KeepRun = False,
    window: Annotated[
        int | None, tokens_option("--window", "Tokens read at a time; default 2048, or the base's context.", 2)
    ] = None,
    chunk: Annotated[int, tokens_option("--chunk", "Fresh tokens of each write.")] = 256,
    passes: Annotated[int, typer.Option("--passes", min=1, help="How often the text is read.")] = 1,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate; default: the kind's own.")] = None,
    replay: Annotated[
        str,
        typer.Option(
            "--replay",
            help="General text on which the memory should stay silent; `general`: the sample that ships; `none`: no such text.",
        ),
    ] = "general",
    local: Annotated[float, typer.Option("--local", help="Weight of the local neutrality loss on --replay.")] = 0.3,
    published: Annotated[
        bool, typer.Option("--published", help="Locas as its authors have it: published tau, nothing keeps it silent.")
    ] = False,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Score the text with the bare base too, for comparison.")
    ] = True,
    precision: w.Arithmetic = w.Precision.FP32,
    checkpoint_every: Annotated[
        int | None, typer.Option("--checkpoint-every", min=1, help="Chunks between checkpoints.")
    ] = None,
    licence: o.Licence = None,
    seed: o.Seed = 0,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Read a text once in a stream; every chunk is predicted first, then written into the memory.

    Before the first chunk it says what it will do and how long that takes. Ctrl-C ends the run after its chunk, with a
    checkpoint: the same command with --resume goes on to the same bits, with --finish it saves the memory as it is then.

    Example: `addenda memorize book --text moby-dick.txt`
    """
    given = dict(locals())
    with answering(json) as answer:
        import addenda

        w.check_text(file_of(text))
        place = Path("runs") / name if out is None else out
        w.check_place(place, resume or finish)
        loaded = o.load(base, dtype, device, plug, "").base
        settings = prepared(loaded, name, kind, set_, seed, published, gate)
        settings |= {key: getattr(given[key], "value", given[key]) for key in TYPED}
        settings["replay"] = None if replay == "none" else replay
        try:
            report = addenda.memorize(
                loaded, name, text=file_of(text), out=place, resume=resume, finish=finish, **settings
            )
        except addenda.AddendaError as error:
            raise w.spoken(error) from None
        then = look(place, file_of(text), given)
        answer.give(report.as_dict() | {"next": then}, lambda console: w.show(console, str(report), report.out, then))


def prepared(
    base: Base,
    name: str,
    kind: str | None,
    pairs: list[str] | None,
    seed: int,
    published: bool = False,
    gate: str | None = None,
) -> dict[str, Any]:
    """Make the memory, unless it was plugged; returns the settings among the `--set` pairs."""
    from dataclasses import fields

    from addenda.core.registry import kind_named, plain_options
    from addenda.writing.memorize import default_kind
    from addenda.writing.memory_settings import MemorySettings

    default = default_kind(base, published)
    chosen = type(default).__name__ if kind is None else kind
    known = [field.name for field in fields(MemorySettings)]
    options, settings = w.split(kind_named(chosen), pairs, "memorize", known, TYPED)
    if kind is None and name not in base.modules:
        options = plain_options(default) | options
    w.fresh(base, name, chosen, options, seed, gate)
    return settings


def file_of(text: str) -> str | Path:
    """A file's path, or the name of a sample: on a command line a text itself would be a slip of the hand."""
    from addenda.tiny import SAMPLES

    return text if text in SAMPLES else Path(text)
