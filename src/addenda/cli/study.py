"""`addenda study`: documents made into a study set, questions with their answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli import written as w
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import command

if TYPE_CHECKING:
    from addenda.plug.base import Base

Files = Annotated[
    list[Path],
    typer.Argument(help="Documents: .txt, .md, .html, .docx, .pdf files, or folders of them.", metavar="FILES..."),
]
Folder = Annotated[
    Path | None, typer.Option("--out", help="The study's folder; default: runs/NAME.study, by the first file's name.")
]
TeacherAddress = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="A chat endpoint as OpenAI's that writes exercises; its key, if need be, in ADDENDA_TEACHER_KEY. Default: the "
        "base itself, as far as it reads well.",
        metavar="URL",
    ),
]
TeacherModel = Annotated[
    str | None, typer.Option("--teacher-model", help="Its model; default: the first that it offers.", metavar="NAME")
]
Questions = Annotated[
    Path | None,
    typer.Option("--questions", help="Your own questions, all kept: JSON lines with question and answer, or messages."),
]
HeldOut = Annotated[
    Path | None, typer.Option("--held-out", help="Questions that no exercise may ask, in the same form.")
]
Exercises = Annotated[
    str | None,
    typer.Option(
        "--exercises", help="Kinds of exercises; default: all of `addenda methods exercise`.", metavar="NAMES"
    ),
]
Ask = Annotated[bool, typer.Option("--ask/--mined-only", help="Ask a teacher for exercises too, or only mine them.")]
Gain = Annotated[
    bool, typer.Option("--gain/--no-gain", help="Leave out answers that their chunk does not make likelier.")
]
ChunkTokens = Annotated[int, tokens_option("--chunk-tokens", "Tokens of a chunk at most.", 32)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done and what it costs, and stop.")]
Earlier = Annotated[
    Path | None,
    typer.Option("--earlier", help="An earlier study, whose teacher's answers are not asked for again."),
]


def study(
    files: Files,
    out: Folder = None,
    teacher: TeacherAddress = None,
    teacher_model: TeacherModel = None,
    questions: Questions = None,
    held_out: HeldOut = None,
    exercises: Exercises = None,
    ask: Ask = True,
    gain: Gain = True,
    chunk_tokens: ChunkTokens = 256,
    earlier: Earlier = None,
    resume: w.Resume = False,
    dry_run: DryRun = False,
    seed: o.Seed = 0,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Make a study set of documents: questions with their answers, from which a module learns to answer.

    The folder holds study.jsonl, which you may read and edit, chunks.jsonl, and report.json. Ctrl-C stops it between two batches;
    the same command with --resume goes on to the same bits, and what a teacher answered is never asked for again.

    Example: `addenda study handbook.md --base smollm2`
    """
    with answering(json) as answer:
        from addenda.core.errors import AddendaError
        from addenda.teaching.study import plan_study
        from addenda.teaching.study import study as make
        from addenda.text.documents import documents

        asked: dict[str, Any] = {
            "seed": seed, "teacher": teacher, "teacher_model": teacher_model, "questions": questions, "held_out": held_out,
            "exercises": None if exercises is None else [name.strip() for name in exercises.split(",") if name.strip()],
            "ask": ask, "gain": gain, "chunk_tokens": chunk_tokens,
        }  # fmt: skip
        place = Path("runs") / f"{files[0].stem}.study" if out is None else out
        read = documents(files)  # what is wrong with them comes before the base is loaded
        loaded: Base = o.load_base(base, dtype, device)
        try:
            if dry_run:
                plan = plan_study(loaded, read, **asked)
                answer.give(plan.as_dict(), lambda console: console.print(str(plan), markup=False))
                return
            report = make(loaded, read, out=place, resume=resume, earlier=earlier, **asked)
        except AddendaError as error:
            raise w.spoken(error) from None
        where = {"base": base, "dtype": dtype, "device": device}
        name = re.sub(r"[^a-z0-9._-]+", "-", files[0].stem.lower()).strip("-._") or "handbook"
        then = command("train", name, "--corpus", place / "study.jsonl", "--tokens", "100000", **where)
        answer.give(report.as_dict(), lambda console: w.show(console, str(report), None, then))
