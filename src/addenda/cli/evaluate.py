"""`addenda evaluate`: texts, questions, chats, facts, edits and neutrality, modules on and off, with paired differences."""

# budget: the signature of `evaluate` is its command line
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.measuring.conducting.evaluate import Evaluation
    from addenda.plug.base import Base


def evaluate(
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help=f"Held-out text, NAME=FILE: {o.TEXTS}. Repeatable."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="A question set of ADDENDA_DATA, e.g. piqa, mmlu, mmlu_anatomy. Repeatable."),
    ] = None,
    facts: Annotated[
        Path | None, typer.Option("--facts", help="A file of `addenda facts`: closed-book recall and locality.")
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--snapshot", help="The facts at an earlier time: asked closed-book and with retrieval from either."
        ),
    ] = None,
    edits: Annotated[
        str | None,
        typer.Option(
            "--edits", help="A file of edits, or known, those of ADDENDA_DATA: reliability, generality, locality."
        ),
    ] = None,
    neutrality: Annotated[
        list[str] | None,
        typer.Option(
            "--neutrality", help="Text not trained on: what the modules change there, as KL and else. Repeatable."
        ),
    ] = None,
    chats: Annotated[
        str | None,
        typer.Option(
            "--chats", help="How many answers to chats change: general, those that come along, or a file of messages."
        ),
    ] = None,
    questions: Annotated[
        bool,
        typer.Option("--questions", help="Zero-shot questions that come along, 400 of four sets: right answers."),
    ] = False,
    spectrum: Annotated[
        str | None,
        typer.Option("--spectrum", help="Text: how many directions the modules' units use, beside the base's."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask so many questions of each set.")] = None,
    save: Annotated[
        bool,
        typer.Option(
            "--save", help="Write what was found into the module's card and README; one module, plugged from a folder."
        ),
    ] = False,
    modules: o.Modules = None,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    length: Annotated[int | None, tokens_option("--length", "Tokens read at a time; default 512.", 2)] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, help="Tokens scored in each window; default: all.")
    ] = None,
    tokens: Annotated[
        int | None,
        tokens_option("--tokens", "Score this many of each text; default: all, of --neutrality 20,000."),
    ] = None,
    batch_tokens: Annotated[int, tokens_option("--batch-tokens", "Tokens in one forward pass.")] = 4096,
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Measure the base with modules and without: held-out loss, tasks, recall of facts, edits, and what else they change.

    Whatever is asked for is measured, off and on paired; a probe first proves that the selected modules really run. Intervals are
    95%, by bootstrap over documents, people or questions.

    Example: `addenda evaluate --plug runs/pubmed --on medical=pubmed_valid --neutrality general_valid --chats general`
    """
    with answering(json) as answer:
        from addenda.measuring.conducting.evaluate import evaluate as score

        texts = o.named_texts(on) if on else {}
        loaded = o.load(base, dtype, device, plug, modules)
        folder = folder_of(plug or [], loaded.selected) if save else None
        with working("evaluating", "nothing was saved"):
            evaluation = score(
                loaded.base, texts, loaded.selected, tasks=task or (), facts=facts, snapshot=snapshot, edits=edits,
                neutrality=tuple(neutrality) if neutrality else None, chats=chats, questions=questions, spectrum=spectrum,
                limit=limit, length=length, stride=stride, tokens=tokens,
                batch_tokens=batch_tokens,
            )  # fmt: skip
        answer.give(evaluation.as_dict(), lambda out: show(out, evaluation))
    if folder is not None:  # what was found has been told by now: a save that fails loses nothing
        _save(loaded.base, evaluation, folder, json)


def folder_of(plug: list[str], selected: dict[str, float]) -> Path:
    """The folder of the one module that acts at weight 1.

    Raises:
        AddendaError: another number of modules act, or it came from no folder of this machine.
        FileError: the folder holds what is not a module's, so that nothing could be saved there.
    """
    from addenda.core.errors import AddendaError
    from addenda.core.files import check_place
    from addenda.modulefile.storage import MEMBERS

    alias, place = o.named(plug[0]) if len(plug) == 1 else ("", "")
    if not place or alias or list(selected.values()) != [1.0] or not (Path(place) / "card.json").is_file():
        raise AddendaError(
            "--save is for one module, plugged from its folder under its own name (--plug FOLDER) and acting at weight 1"
        )
    check_place(Path(place), MEMBERS)
    return Path(place)


def _save(base: Base, evaluation: Evaluation, folder: Path, json: bool) -> None:
    """Write what was told into the module's folder, and say so.

    Raises:
        typer.Exit: with code 2, where it could not be written; why is said on standard error.
    """
    from addenda.cli.answers import console, note, print_error
    from addenda.core.errors import AddendaError

    try:
        written = keep(base, evaluation, folder)
    except (AddendaError, OSError) as error:  # standard output has its one answer: no second line of JSON
        print_error(f"what was found is told above, but was not saved: {error}")
        raise typer.Exit(2) from None
    said = f"Written into the card of {written[0]}{', and ' + str(written[1]) if len(written) > 1 else ''}."
    note(said) if json else console().print(said)


def keep(base: Base, evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write what was found into the card of the module that acted, and save the module where it came from.

    The certificate of the three settings, if they were asked, is written beside that folder, which holds a module and nothing
    else: `runs/people.certificate.json` beside `runs/people`. Returns what was written.
    """
    from addenda.measuring.conducting.recorded import record

    record(base, evaluation)
    (name,) = evaluation.modules
    base.modules[name].save(folder)
    if evaluation.settings is None:
        return [folder]
    place = folder.resolve()
    beside = place.with_name(f"{place.name}.certificate.json")
    evaluation.settings.certificate.save(beside)
    return [folder, beside]


def show(out: Console, evaluation: Evaluation) -> None:
    """A table for each thing measured, and what the canary found."""
    from addenda.cli import evaluated

    label = o.selection_text(evaluation.modules)
    for name in evaluation.trained_on:
        out.print(
            f"'{name}' is text that a module was trained, validated or calibrated on: what is measured on it is not held out.",
            markup=False,
        )
    if evaluation.texts:
        out.print(evaluated.texts(evaluation, label))
    if evaluation.tasks:
        out.print(evaluated.tasks(evaluation.tasks, label))
    if evaluation.recall is not None:
        out.print(evaluated.recall(evaluation.recall, label))
    if evaluation.settings is not None:
        out.print(evaluated.settings(evaluation.settings))
    if evaluation.edits is not None:
        out.print(evaluated.edits(evaluation.edits, label))
    if evaluation.neutrality:
        out.print(evaluated.neutrality(evaluation.neutrality))
    if evaluation.chats is not None:
        for table in evaluated.chats(evaluation.chats, label):
            out.print(table)
    if evaluation.questions is not None:
        out.print(evaluated.questions(evaluation.questions, label))
    for name, sites in evaluation.spectrum.items():
        out.print(evaluated.spectrum(name, sites))
    for probe in evaluation.canary:
        if probe.finding != "on":
            why = "its card has no record of training" if probe.finding == "fresh" else "its gate left the probe alone"
            out.print(f"'{probe.name}' ran at all {probe.sites} sites and changed nothing there: {why}.")
