"""`addenda teach`: documents made into a module that answers from them."""

# budget: the signature of `teach` is its command line
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli import study as s
from addenda.cli import written as w
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import command

if TYPE_CHECKING:
    from addenda.plug.base import Base

Named = Annotated[
    str | None, typer.Option("--name", help="What the module is called.", show_default="the first file's name")
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", help="What all of it may take; default: as long as is good.", min=0.1),
]
Held = Annotated[
    Path | None, typer.Option("--held-out", help="Questions that are not studied, but asked at the end, with answers.")
]
Update = Annotated[
    Path | None,
    typer.Option(
        "--update",
        help="A module that was taught an earlier version of the documents: what changed is studied.",
        metavar="FOLDER",
    ),
]
Tokens = Annotated[int | None, tokens_option("--tokens", "Tokens to train on; default: as the study set asks for.")]
Finish = Annotated[
    bool,
    typer.Option(
        "--finish", help="Make the module of the last checkpoint of interrupted training, and go on from there."
    ),
]


def teach(
    files: s.Files,
    name: Named = None,
    out: w.Out = None,
    update: Update = None,
    minutes: Minutes = None,
    tokens: Tokens = None,
    questions: s.Questions = None,
    held_out: Held = None,
    teacher: s.TeacherAddress = None,
    teacher_model: s.TeacherModel = None,
    judge: o.JudgeAddress = None,
    judge_model: o.JudgeModel = None,
    ask: Annotated[
        bool,
        typer.Option("--ask", help="Ask the base itself for exercises too; with --teacher that is asked in any case."),
    ] = False,
    set_: w.Pairs = None,
    resume: w.Resume = False,
    finish: Finish = False,
    dry_run: s.DryRun = False,
    seed: o.Seed = 0,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Teach the base documents: a module that answers from them, and is silent elsewhere.

    It says first what it will do and how long that takes. A study set is made of the documents, a module trained on it, its gate
    calibrated, and questions asked with the module off and on. Ctrl-C stops it. The same command with --resume goes on to the
    same bits; with --finish it makes the module of what was trained so far. With --update it takes the documents' next version:
    what changed in them is studied from the old module's weights, and what is gone from them is refused.

    Example: `addenda teach handbook.md --base smollm2`
    """
    with answering(json) as answer:
        from addenda.core.errors import AddendaError
        from addenda.teaching.teach import plan_teach
        from addenda.teaching.teach import teach as make
        from addenda.text.documents import documents

        called = name or module_name(files[0])
        place = Path("runs") / called if out is None else out
        given: dict[str, Any] = {
            "tokens": tokens, "questions": questions, "held_out": held_out, "teacher": teacher,
            "teacher_model": teacher_model, "judge": judge, "judge_model": judge_model, "ask": ask or None,
        }  # fmt: skip
        asked = {word: value for word, value in given.items() if value is not None} | w.settings(set_)
        read = documents(files)  # what is wrong with them comes before the base is loaded
        loaded: Base = o.load_base(base, dtype, device)
        try:
            if dry_run:
                plan = plan_teach(loaded, read, update=update, minutes=minutes, seed=seed, **asked)
                answer.give(plan.as_dict(), lambda console: console.print(str(plan), markup=False))
                return
            report = make(
                loaded,
                called,
                read,
                out=place,
                update=update,
                resume=resume,
                finish=finish,
                minutes=minutes,
                seed=seed,
                **asked,
            )
        except AddendaError as error:
            raise w.spoken(error) from None
        then = command("chat", "--plug", place, base=base, dtype=dtype, device=device)
        answer.give(report.as_dict(), lambda console: w.show(console, str(report), place, then))


def module_name(file: Path) -> str:
    """A module's name from a file's or folder's: small letters, digits, dashes."""
    stem = file.resolve().stem.lower()
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem)
    return kept.strip("-._") or "documents"
