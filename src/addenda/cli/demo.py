"""`addenda demo`: the main job on a base that comes with the package or from the index, with a table and a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering, note

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.showing.demo import DemoReport
    from addenda.showing.replies import Reply


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where the modules and report.html go; default: runs/demo, and runs/demo-NAME for another base than tiny.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        tokens_option("--tokens", "Tokens that each module is trained on; default: some minutes' worth."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small fraction of it all, to see that everything runs.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Also write the picture of what was learned and moved to this .png or .svg."),
    ] = None,
    seed: o.Seed = 0,
    base: o.BaseName = "tiny",
    json: o.Json = False,
) -> None:
    """Teach a base a subject with a module and with a LoRA of equal size, compare, switch off, and prove it is untouched.

    `tiny` learns medicine, offline, in minutes on two cores; `--base smollm2` learns French novels, in a quarter of an hour. An
    interrupted demo goes on when the same command is given again. Exits 1 where a check fails.

    Example: `addenda demo --base smollm2`
    """
    with answering(json) as answer:
        from addenda.showing.demo import demo as run

        loaded = o.load_base(base, o.Dtype.FLOAT32)
        report = run(out, tokens=tokens, seed=seed, quick=quick, picture=picture, base=loaded, tell=note)
        failed = "; ".join(report.failed) or None
        answer.give(report.as_dict(), lambda console: show(console, report), failed and f"checks failed: {failed}")


def show(out: Console, report: DemoReport) -> None:
    """What was written, the table, the checks, and where the rest is."""
    from rich.table import Table
    from rich.text import Text

    from addenda.showing.table import table_of

    for on_subject in (True, False):
        _reply(out, next(reply for reply in report.replies if reply.on_subject == on_subject))
    _prompts(out, report.replies)
    head, rows = table_of(report)
    table = Table()
    for column in head:
        table.add_column(Text(column), justify="right" if column else "left")
    for row in rows:
        table.add_row(*(Text(value + (f"\n{below}" if below else "")) for value, below in row))
    out.print(Text(f"\n{report.base} learns {report.scene.taught}, held-out text, with 95% intervals", style="bold"))
    out.print(table)
    for check in report.checks:
        out.print(Text.assemble(("✓ " if check.passed else "✗ ", "green" if check.passed else "red"), check.text))
    out.print(f"{report.seconds:.0f} s; all of it, with every prompt: open {report.page}", markup=False)


def _reply(out: Console, reply: Reply) -> None:
    """One prompt, and what each column wrote."""
    from rich.table import Table
    from rich.text import Text

    out.print(Text(f"\n{reply.sort}: {reply.prompt} …", style="bold"))
    table = Table()
    for column in reply.texts:
        table.add_column(column, ratio=1, overflow="fold")
    table.add_row(*(Text(text.strip()) for text in reply.texts.values()))
    out.print(table)


def _prompts(out: Console, replies: tuple[Reply, ...]) -> None:
    """A line for each prompt: whether what was written is what the base wrote."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in ("", "prompt", "gate open", "module on", "LoRA"):
        table.add_column(column, no_wrap=True)
    for reply in replies:
        live = reply.live["module on"]
        said = ["same" if reply.same(column) else "other words" for column in ("module on", "LoRA")]
        table.add_row(reply.sort, Text(reply.prompt[:30] + " …"), "" if live is None else f"{live:.0%}", *said)
    out.print(Text("\nall prompts, fixed before training: does the same text follow as with the base?", style="bold"))
    out.print(table)
