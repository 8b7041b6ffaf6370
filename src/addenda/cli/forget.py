"""`addenda forget`: take a text out of a module while it keeps another, or take the module out whole, with proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli import written as w
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering, confirm
from addenda.cli.commands import command

if TYPE_CHECKING:
    from addenda.cli.answers import Answer
    from addenda.removing.report import ForgetReport

Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate; default: 0.3 of the kind's own.")]
Tokens = Annotated[
    int | None,
    tokens_option("--tokens", "Tokens to read, both texts counted; default: the forget text is read eight times."),
]
Length = Annotated[int | None, tokens_option("--length", "Tokens of a row; default: as tokens and texts allow.", 2)]
Rows = Annotated[int | None, typer.Option("--batch-rows", min=1, help="Rows of one batch; default: 8, 4 or 2.")]
Measured = Annotated[int, tokens_option("--measured", "Tokens of each text that are measured at the end.")]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="An option of the method or a setting, e.g. batches=5. Repeatable.", metavar="KEY=VALUE"
    ),
]

#: settings that have an option of their own
TYPED = frozenset({"length", "batch_rows", "measured", "keep_run"})


def forget(
    module: Annotated[str, typer.Argument(help="A module's folder, or a hub id with --out.", metavar="FOLDER")],
    forget_: Annotated[
        str | None, typer.Option("--forget", help=f"Text that is to go: {o.TEXTS}.", metavar="TEXT")
    ] = None,
    retain: Annotated[str | None, typer.Option("--retain", help="Text that is to stay.", metavar="TEXT")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Take the module out whole, prove it, and delete its folder.")
    ] = False,
    method: Annotated[
        str | None, typer.Option("--method", help="A forgetter: see `addenda methods forgetter`.", show_default="gu")
    ] = None,
    set_: Pairs = None,
    tokens: Tokens = None,
    lr: Rate = None,
    length: Length = None,
    batch_rows: Rows = None,
    measured: Measured = 16_000,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for what is left of the module.")] = None,
    resume: w.Resume = False,
    finish: w.Finish = False,
    keep_run: w.KeepRun = False,
    seed: o.Seed = 0,
    yes: o.Yes = False,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Take a text out of a module and keep another; the report says what can still be got out of it.

    The base is not changed: what it knows of the text by itself stays. The module in FOLDER stays as it is; delete it once you
    are content with what is in --out.

    `--whole` unplugs the module, proves that the base is what it was, bit for bit, and deletes FOLDER with the run beside it.

    Example: `addenda forget runs/pubmed --forget withdrawn.jsonl --retain pubmed_train --out runs/pubmed-2`
    """
    given = dict(locals())
    with answering(json) as answer:
        _check(given)
        if whole:
            _whole(answer, given)
            return
        import addenda

        name, options, settings = _split(method or "gu", set_)
        loaded = o.load_base(base, dtype, device)
        plugged = o.plug_one(loaded, module)
        try:
            report = addenda.forget(
                loaded, plugged, forget=forget_, retain=retain, method=_method(name, options), tokens=tokens, lr=lr,
                seed=seed, out=out, resume=resume, finish=finish, length=length, batch_rows=batch_rows, measured=measured,
                keep_run=keep_run, **settings,
            )  # fmt: skip
        except addenda.AddendaError as error:
            raise w.spoken(error) from None
        then = _next(report, given)
        answer.give(report.as_dict() | {"next": then}, lambda console: w.show(console, str(report), report.out, then))


def _whole(answer: Answer, given: Mapping[str, Any]) -> None:
    import addenda
    from addenda.modulefile.folders import check_deletable

    folder = o.named(given["module"])[1]
    doomed = check_deletable(folder)
    loaded = o.load_base(given["base"], given["dtype"], given["device"])
    name = o.plug_one(loaded, given["module"])
    confirm(f"forget {name} and delete {folder} ({doomed.bytes:,} bytes)?", given["yes"])
    report = addenda.forget(loaded, name, folder=folder)
    failed = None if report.holds else f"{name}: the base without it is not the base it was; nothing was deleted"
    answer.give(report.as_dict(), lambda console: console.print(str(report), markup=False, soft_wrap=True), failed)


def _check(given: Mapping[str, Any]) -> None:
    """Refuse options that go against each other, before anything is loaded.

    Raises:
        AddendaError: says which, and what to do.
    """
    from addenda.core.errors import AddendaError

    parts = {"--forget": "forget_", "--retain": "retain", "--out": "out"}
    absent = [option for option, key in parts.items() if given[key] is None]
    others = {"--method": "method", "--set": "set_", "--tokens": "tokens", "--lr": "lr", "--resume": "resume"}
    others |= {"--finish": "finish", "--length": "length", "--batch-rows": "batch_rows", "--keep-run": "keep_run"}
    used = [option for option, key in (parts | others).items() if given[key]]
    if given["whole"] and used:
        raise AddendaError(
            f"--whole takes the module out as it is, and {', '.join(used)} would be ignored; leave one out"
        )
    if not given["whole"] and absent:
        raise AddendaError(
            f"forgetting a part takes --forget TEXT, --retain TEXT and --out FOLDER ({', '.join(absent)} missing); to forget "
            "the module whole, say --whole"
        )
    if not given["whole"]:
        o.check_apart(given["out"], given["module"])
        w.check_text(given["forget_"])
        w.check_text(given["retain"])


def _split(method: str, pairs: list[str] | None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The method, its options and settings of the verb.

    Raises:
        AddendaError: as `written.split`, or options are given both ways.
    """
    from dataclasses import fields

    from addenda.core.errors import AddendaError
    from addenda.core.registry import asked_for
    from addenda.forgetters.forgetter import Forgetter
    from addenda.removing.plan import ForgetSettings

    chosen = type(asked_for(Forgetter, method))
    options, settings = w.split(chosen, pairs, "forget", [field.name for field in fields(ForgetSettings)], TYPED)
    if options and "(" in method:
        raise AddendaError(f"options of {chosen.called()} are given in --method and in --set; give them in one place")
    return method, options, settings


def _method(name: str, options: Mapping[str, Any]) -> Any:
    from addenda.core.registry import build

    return build("forgetter", name, options) if options else name


def _next(report: ForgetReport, given: Mapping[str, Any]) -> str:
    """The command that looks at what is left."""
    place = {"base": given["base"], "dtype": given["dtype"], "device": given["device"]}
    return command("evaluate", "--plug", str(report.out), "--on", given["forget_"], **place)
