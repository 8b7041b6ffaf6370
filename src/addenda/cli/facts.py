"""`addenda facts`: fictional biographies to train on, with questions in other words, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering

if TYPE_CHECKING:
    from rich.console import Console


def facts(
    out: Annotated[Path, typer.Argument(help="The file to write, .jsonl: a corpus for train, questions for evaluate.")],
    people: Annotated[int, typer.Option("--people", min=1, help="Told about in the texts, five facts each.")] = 100,
    unseen: Annotated[
        int | None, typer.Option("--unseen", min=0, help="People only asked about; default: a fifth, at least 10.")
    ] = None,
    phrasings: Annotated[int, typer.Option("--phrasings", min=1, help="Texts about each person, in other words.")] = 4,
    revise: Annotated[
        float,
        typer.Option("--revise", min=0.0, max=1.0, help="The same people later: this share of facts has changed."),
    ] = 0.0,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> None:
    """Make fictional people with facts about them, to see how many a module holds.

    The texts never use the words of the questions, and wrong answers are true of others, so that only who knows of whom a fact
    is true gets above chance.

    The file is a corpus for `addenda train` as it is, and `addenda evaluate --facts` asks its questions.

    Example: `addenda facts people.jsonl --people 50`
    """
    with answering(json) as answer:
        from addenda.measuring.asking.facts import biographies

        made = biographies(people, unseen=unseen, phrasings=phrasings, seed=seed)
        made = made.revised(revise, seed=seed) if revise else made
        made.save(out)
        counts = {"out": str(out), "texts": len(made.documents), "facts": len(made.told), "unseen": len(made.untold)}

        def show(console: Console) -> None:
            console.print(f"{out}: {counts['texts']} texts, {counts['facts']} facts told, {counts['unseen']} not told")

        answer.give(counts, show)
