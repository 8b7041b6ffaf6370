"""`addenda delete`: a module's folder, and the run beside it, deleted for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering, confirm

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.modulefile.folders import DeletedModule


def delete(
    folder: Annotated[
        Path, typer.Argument(help="A module's folder, or that of an interrupted run: FOLDER.run.", metavar="FOLDER")
    ],
    yes: o.Yes = False,
    json: o.Json = False,
) -> None:
    """Delete a module and the run beside it (FOLDER.run), or an interrupted run; anything else is refused and left as it is.

    Example: `addenda delete runs/pubmed`
    """
    with answering(json) as answer:
        from addenda.modulefile.folders import check_deletable
        from addenda.modulefile.folders import delete as remove

        doomed = check_deletable(folder)
        confirm(
            f"delete {folder} ({doomed.bytes:,} bytes{' with its run' if doomed.run and doomed.files else ''})?", yes
        )
        gone = remove(folder)
        answer.give(gone.as_dict(), lambda out: show(out, gone))


def show(out: Console, gone: DeletedModule) -> None:
    """Every file with its bytes and hash."""
    out.print(f"deleted {gone.path}, {gone.bytes:,} bytes:", markup=False, soft_wrap=True)
    for name, (size, digest) in gone.files.items():
        out.print(f"  {name}, {size:,} bytes, sha256 {digest}", markup=False, soft_wrap=True)
    if gone.run is not None:
        out.print(f"  {gone.run}, {gone.run_bytes:,} bytes of checkpoints and log", markup=False, soft_wrap=True)
