"""`addenda evaluate`: whatever the measures measure, modules on and off, with paired differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.measuring.conducting.evaluate import Evaluation
    from addenda.plug.base import Base


def further_options() -> Callable[..., Any]:
    """A function whose parameters are the measures' options."""
    from addenda.cli.evaluated import options_of
    from addenda.measuring.conducting.evaluate import known_measures
    from addenda.measuring.conducting.measure import offered

    return options_of(offered(known_measures()), evaluate)


def evaluate(
    context: typer.Context,
    save: Annotated[
        bool,
        typer.Option(
            "--save", help="Write what was found into the module's card and README; one module, plugged from a folder."
        ),
    ] = False,
    modules: o.Modules = None,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Measure the base with modules and without: held-out loss, tasks, recall of facts, edits, and what else they change.

    Whatever is asked for is measured, off and on paired; a probe first proves that the selected modules really run. Intervals are
    95%, by bootstrap over documents, people or questions. `addenda methods measure` lists the measures.

    Example: `addenda evaluate --plug runs/pubmed --on medical=pubmed_valid --neutrality general_valid --chats general`
    """
    with answering(json) as answer:
        from addenda.cli.evaluated import values
        from addenda.measuring.conducting.evaluate import evaluate as score
        from addenda.measuring.conducting.evaluate import known_measures
        from addenda.measuring.conducting.measure import offered

        asked = values(context.obj, offered(known_measures()))
        loaded = o.load(base, dtype, device, plug, modules)
        folder = folder_of(plug or [], loaded.selected) if save else None
        kept = "nothing was saved" + ", but verdicts that came are kept" * ("judge" in asked)
        with working("evaluating", kept):
            evaluation = score(loaded.base, modules=loaded.selected, **asked)
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
    said = f"Written into the card of {', and '.join(map(str, written))}."
    note(said) if json else console().print(said)


def keep(base: Base, evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write what was found into the card of the module that acted, and save the module where it came from.

    What a measure writes, as a certificate of the three settings, lies beside that folder, which holds a module and nothing else:
    `runs/people.certificate.json` beside `runs/people`. Returns what was written.
    """
    from addenda.measuring.conducting.recorded import record

    record(base, evaluation)
    (name,) = evaluation.modules
    base.modules[name].save(folder)
    written, place = [folder], folder.resolve()
    for one, measure in evaluation.measures.items():
        for ending, write in measure.files(evaluation.found[one]).items():
            written.append(place.with_name(f"{place.name}.{ending}"))
            write(written[-1])
    return written


def show(out: Console, evaluation: Evaluation) -> None:
    """A table for each thing measured, and what the canary found."""
    from addenda.cli.evaluated import drawn

    label = o.selection_text(evaluation.modules)
    for name in evaluation.trained_on:
        out.print(
            f"'{name}' is text that a module was trained, validated or calibrated on: what is measured on it is not held out.",
            markup=False,
        )
    for name, measure in evaluation.measures.items():
        for table in measure.rows(evaluation.found[name], evaluation.base, label):
            out.print(drawn(table))
    for probe in evaluation.canary:
        if probe.finding != "on":
            why = "its card has no record of training" if probe.finding == "fresh" else "its gate left the probe alone"
            out.print(f"'{probe.name}' ran at all {probe.sites} sites and changed nothing there: {why}.")
