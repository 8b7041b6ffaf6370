"""`addenda publish`: a module's folder as a repository on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering, confirm, note

if TYPE_CHECKING:
    from addenda.modulefile.hub import Publication


def publish(
    folder: Annotated[Path, typer.Argument(help="A module's folder.", metavar="FOLDER")],
    repository: Annotated[str, typer.Argument(help="The hub repository, owner/name.", metavar="REPO")],
    public: Annotated[
        bool, typer.Option("--public", help="Everyone may see a new repository; default: only its owner.")
    ] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="The branch to write to; default: main.")] = None,
    message: Annotated[str | None, typer.Option("--message", help="Of the commit.")] = None,
    yes: o.Yes = False,
    json: o.Json = False,
) -> None:
    """Publish a module on the hub; what will be sent is told first, and asked about.

    The login is huggingface_hub's (`hf auth login`, or HF_TOKEN). A new repository is private unless --public is given.

    Example: `addenda publish runs/pubmed me/pubmed`
    """
    with answering(json) as answer:
        from addenda.modulefile.hub import publish as send

        def tell(plan: Publication) -> None:
            note(str(plan))
            confirm("publish it?", yes)

        made = send(folder, repository, private=not public, revision=revision, message=message, tell=tell)
        answer.give(made.as_dict(), lambda out: out.print(f"published: {made.url}", markup=False, soft_wrap=True))
