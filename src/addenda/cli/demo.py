"""`addenda demo`: the main job on the embedded base, with a table and a report to look at."""

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


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where the modules and report.html go.")] = Path("runs/demo"),
    tokens: Annotated[
        int | None,
        tokens_option("--tokens", "Tokens that each module is trained on; default: some minutes' worth."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes, to see that everything runs.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Also write the plot of learning against forgetting to this .png or .svg."),
    ] = None,
    seed: o.Seed = 0,
    base: o.BaseName = "tiny",
    json: o.Json = False,
) -> None:
    """Train a module and a LoRA of equal size on medical text, compare, switch off, and prove the base is untouched.

    On the embedded base and sample texts, offline, in minutes on two cores. Exits 1 where a check fails.

    Example: `addenda demo --out runs/demo`
    """
    with answering(json) as answer:
        from addenda.showing.demo import demo as run

        loaded = o.load_base(base, o.Dtype.FLOAT32)
        report = run(out, tokens=tokens, seed=seed, quick=quick, picture=picture, base=loaded, tell=note)
        failed = "; ".join(report.failed) or None
        answer.give(report.as_dict(), lambda console: show(console, report), failed and f"checks failed: {failed}")


def show(out: Console, report: DemoReport) -> None:
    """The table, the checks, the prompts, and where the rest is."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Held-out loss, nats per token [95% interval]", title_justify="left")
    for column in ("", "medical", "learned", "general", "forgotten"):
        table.add_column(column, justify="left" if not column else "right")
    for row in report.rows:
        cells = [_score(row.medical), _change(row.learned), _score(row.general), _change(row.forgotten)]
        table.add_row(row.label, *map(Text, cells))
    out.print(table)
    for check in report.checks:
        out.print(Text.assemble(("✓ " if check.passed else "✗ ", "green" if check.passed else "red"), check.text))
    for sample in report.samples:
        prompts = Table(title=Text(f"{sample.sort}: {sample.prompt}", style="bold"), title_justify="left")
        for label in sample.texts:
            prompts.add_column(label, ratio=1, overflow="fold")
        prompts.add_row(*(Text(text.strip()) for text in sample.texts.values()))
        out.print(prompts)
    out.print(f"{report.seconds:.0f} s; open {report.page}", markup=False)


def _score(score: object) -> str:
    return f"{score.nats:.3f} [{score.low:.3f}, {score.high:.3f}]"  # type: ignore[attr-defined]


def _change(change: object) -> str:
    return "" if change is None else f"{change.nats:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"  # type: ignore[attr-defined]
