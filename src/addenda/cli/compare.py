"""`addenda compare`: the same text given to a base in every way, at one budget, measured alike."""

# budget: the signature of `compare` is its command line
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.working import working

#: of the methods; to ask for them takes seconds, for they bring torch
NAMES = "base, full, lora, peft, adapter, neutral, neutral-token, registers, registers-neutral, cartridge, locas, rag, context"
#: settings of --quick
QUICK = {"tokens": 40_000, "held_tokens": 10_000, "seeds": 1}

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.comparing.comparison import Comparison


def compare(
    context: typer.Context,
    corpus: Annotated[str, typer.Option("--corpus", help=f"Text to learn: {o.TEXTS}.")],
    learning: Annotated[str, typer.Option("--learning", help="Held-out text of the same subject.")],
    forgetting: Annotated[str, typer.Option("--forgetting", help="Held-out text of what the base knew before.")],
    replay: Annotated[
        str | None, typer.Option("--replay", help="Text that stands for what the base knew before.")
    ] = None,
    unrelated: Annotated[
        str | None, typer.Option("--unrelated", help="Text of other queries; default: that of --forgetting.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help=f"Which, joined by commas: {NAMES}; default: all but peft and neutral-token. "
            "Or a kind's own name, or a method of PEFT's: peft:VERA, peft:OFT, peft:LORA(r=8).",
        ),
    ] = None,
    tokens: Annotated[int, tokens_option("--tokens", "Of corpus and replay, for each method that trains.")] = 200_000,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each method at its chosen rate.")] = 3,
    rates: Annotated[
        int, typer.Option("--rates", min=1, help="Learning rates tried, a factor of 3 apart; 1: the kind's tested one.")
    ] = 3,
    held_tokens: Annotated[int, tokens_option("--held-tokens", "Tokens scored of each held-out text.", 8)] = 20_000,
    chats: Annotated[
        int, typer.Option("--chats", min=0, help="General chats that every method answers; 0: none.")
    ] = 30,
    questions: Annotated[
        str | None,
        typer.Option("--questions", help="A file of questions about the corpus, with answers, asked in chat."),
    ] = None,
    judge: o.JudgeAddress = None,
    judge_model: o.JudgeModel = None,
    zero_shot: Annotated[
        int, typer.Option("--zero-shot", min=0, help="Zero-shot questions of each of four sets; 0: none.")
    ] = 25,
    extra: Annotated[float, typer.Option("--extra", min=0.0001, help="Size of modules, as a share of the base.")] = 0.2,
    length: Annotated[int, tokens_option("--length", "Tokens of a row and of a scored window.", 8)] = 256,
    batch_rows: Annotated[int, typer.Option("--batch-rows", min=1, help="Rows of a step.")] = 8,
    compose: Annotated[
        int,
        typer.Option(
            "--compose", min=0, max=8, help="Also train modules apart on so many parts, and plug them together."
        ),
    ] = 0,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Go on where held-out text stands in the corpus.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for records, modules, plots and report.html.")] = Path(
        "runs/compare"
    ),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A quarter of an hour on two cores: --tokens 40000 --held-tokens 10000 --seeds 1, where they are not given.",
        ),
    ] = False,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.FLOAT32,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Give the base the same text in every way there is: what each learns, forgets and costs.

    Each method has the same budget and its own sweep of learning rates. Every run leaves a record in --out: the same command
    goes on where it was interrupted and skips what is done.

    Example: `addenda compare --corpus pubmed_train --replay general_train --learning pubmed_valid --forgetting general_valid`
    """
    with answering(json) as answer:
        import torch

        from addenda.comparing.compare import compare as run
        from addenda.comparing.methods import DEFAULT
        from addenda.core.registry import names_in

        given = {"tokens": tokens, "held_tokens": held_tokens, "seeds": seeds}
        if quick:
            given |= {name: value for name, value in QUICK.items() if not _said(context, name)}
        kept = f"what is done is kept in {out}, and the same command goes on there"
        with working("comparing", kept, unit="tokens read", counted=False) as shown:
            comparison = run(
                base, dtype=None if dtype is o.Dtype.AUTO else getattr(torch, dtype.value), device=device, corpus=corpus,
                learning=learning, forgetting=forgetting, replay=replay, unrelated=unrelated, out=out,
                methods=DEFAULT if methods is None
                else names_in(methods),
                tokens=given["tokens"], seeds=tuple(range(given["seeds"])), rates=rates, held_tokens=given["held_tokens"],
                extra=extra, length=length, chats=chats, questions=questions, judge=judge, judge_model=judge_model,
                zero_shot=zero_shot,
                batch_rows=batch_rows, allow_overlap=allow_overlap, compose=compose,
                tell=shown.say, advance=lambda done, planned: shown.update(done, total=planned),
            )  # fmt: skip
        answer.give(comparison.as_dict(), lambda console: show(console, comparison))


def _said(context: typer.Context, name: str) -> bool:
    """Whether a flag was given, and is not its default."""
    source = context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def show(out: Console, comparison: Comparison) -> None:
    """What was learned and moved, what it takes, what is to be said about it, and where the page is."""
    from rich.text import Text

    from addenda.cli.evaluated import table_of
    from addenda.comparing.page import LEGEND, at_edge, cells_of, head_of, kept_of, sentence, title_of

    heads, rows = head_of(comparison), cells_of(comparison)
    cut = heads.index("parameters")  # two tables: all columns side by side are too wide for a terminal
    for title, columns in (
        (f"The same text given to {comparison.base}, nats per token, with 95% intervals", range(1, cut)),
        ("What it takes", range(cut, len(heads))),
    ):
        table = table_of(title, "method", *(heads[at] for at in columns))
        for column in table.columns:
            column.overflow = "fold"
        for cells in rows:
            told = (cells[at] for at in (0, *columns))
            table.add_row(*(cell if isinstance(cell, str) else f"{cell[0]}\n{cell[1]}".strip() for cell in told))
        out.print(table)
    out.print(Text(LEGEND, style="dim"))
    if comparison.judged is not None:
        out.print(Text(sentence(comparison.judged)))
    for remark in comparison.remarks:
        out.print(Text(remark))
    for method, edge in comparison.edges.items():
        out.print(Text(f"{method}: {at_edge(edge)} (--rates)"))
    for row in comparison.rows:
        if row.rival is not None:
            out.print(Text(f"{row.method}: {row.told()}"))
    for failure in comparison.failed:
        out.print(Text(str(failure)))
    if comparison.composed:
        counts = map(str, sorted(comparison.composed[0].kept))
        together = table_of("Share of its own gain that a module keeps, by how many are on", "method", *counts)
        for composed in comparison.composed:
            together.add_row(
                title_of(composed), *("\n".join(filter(None, kept_of(kept))) for kept in composed.kept.values())
            )
        out.print(together)
    out.print(f"{comparison.page}")
