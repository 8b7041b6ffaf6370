"""Conducting a run from its first word to its saved modules: folders, locks, flags, signals, and one that was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from addenda.core.card import Measure, TrainingRecord
from addenda.core.errors import TrainingError
from addenda.core.files import check_place
from addenda.core.standing import gate_told
from addenda.modulefile.storage import MEMBERS, load_module
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.writing import checkpoint
from addenda.writing.distributed import Processes
from addenda.writing.loop import ModuleRun
from addenda.writing.prepare import prepared
from addenda.writing.probe import probe_of
from addenda.writing.run_log import RunLog
from addenda.writing.settings import RunSettings, WriteSettings
from addenda.writing.signals import TrainingStopped

if TYPE_CHECKING:
    from addenda.plug.base import Base

R = TypeVar("R", bound=ModuleRun)
#: the modules' folders by name
Places = Mapping[str, Path]


def places_of(names: tuple[str, ...], out: Path | None) -> Places:
    """Where each module of a run will be saved: `out` itself, or for several a folder in it; checked.

    Raises:
        FileError: one holds something else than a module.
    """
    places = {} if out is None else {name: out if len(names) == 1 else out / name for name in names}
    for place in places.values():
        check_place(place, MEMBERS)
    return places


def conduct(
    base: Base,
    names: tuple[str, ...],
    make: Callable[[RunLog, Path | None, Processes], R],
    *,
    out: Path | None,
    resume: bool,
    finish: bool,
    seed: int,
    settings: RunSettings,
    logged: Mapping[str, Any],
    tell: Callable[[R], None],
    describe: Callable[[R], None],
    start: Callable[[R], None] = lambda run: None,
    close: Callable[[R], None] = lambda run: None,
    gradient_checkpointing: bool = False,
) -> tuple[R, int]:
    """Make a run, tell what it will do, go through it, save its modules; everything else is put back as it was.

    `make` makes the run from its log, its folder and the processes that go through it together; `logged` says how the log is
    called and what it counts. `tell` tells what the run will do and take, `start` makes modules ready for their first step,
    `describe` writes a run that is over into their cards, `close` comes once they are saved, or were before.

    Returns:
        The run, and the bytes of its checkpoints that were removed.

    Raises:
        TrainingError: as `Run.go` and `take_up`; another process is at the folder.
        FileError: `out` holds something else than a module.
    """
    places = places_of(names, out)
    folder = checkpoint.begin(out, resume or finish)
    with ExitStack() as block:
        block.callback(checkpoint.leave, folder)
        processes = block.enter_context(Processes(base.device))
        block.enter_context(checkpoint.held(folder if processes.first else None))
        block.enter_context(prepared(base, names, seed=seed, gradient_checkpointing=gradient_checkpointing))
        told = {"name": "-".join(names), **logged, "show": settings.log and processes.first}
        told |= {} if processes.first else {"tracker": None}
        log = block.enter_context(RunLog(folder if processes.first else None, **told))
        run = make(log, folder, processes)
        block.callback(run.release)
        interrupts = block.enter_context(Interrupts(run.promise, raises=processes.size == 1))
        over, freed = (resume or finish) and take_up(run, places, finish=finish), 0
        if not over:
            _begin(run, tell, start)
            run.go(interrupts, finish=finish)
            describe(run)
            freed = _saved(run, places)
        close(run)
    return run, freed


def _begin(run: R, tell: Callable[[R], None], start: Callable[[R], None]) -> None:
    """Tell what the run will do and take, and make its modules ready for their first step."""
    try:
        if run.settings.log:
            tell(run)
        if run.resumed_from is None:
            start(run)
    except Stopped as stopped:
        if run.resumed_from is not None:
            raise TrainingStopped.after(run.at, stopped.signal, run.folder) from None
        raise TrainingStopped.after(f"the first {run.unit}", stopped.signal, run.folder, begun=False) from None


def _saved(run: ModuleRun, places: Places) -> int:
    """Save the modules, and remove what their run no longer needs; returns how many bytes of it."""
    freed = 0
    if run.processes.first:
        for name, place in places.items():
            run.base.modules[name].save(place)
        if run.folder is not None:
            freed = checkpoint.finish(run.folder, run.step, run.state(), run.settings.keep_run)
            freed += 0 if run.settings.keep_run else run.clear()
    run.processes.wait()
    return freed


def written(
    run: ModuleRun,
    name: str,
    settings: WriteSettings,
    record: TrainingRecord,
    measures: Sequence[Measure],
    rows: Iterable[np.ndarray],
) -> None:
    """Write a run into a module's card, with what it measured, and keep a probe from some rows of ids."""
    module, card = run.base.modules[name], run.base.modules[name].card
    record.settings |= {} if run.ended is None else {"ended": run.ended}
    card.training = [*card.training, record]
    card.licence = settings.licence or card.licence
    replaced = {(measure.name, measure.on) for measure in measures}
    card.measures = [m for m in card.measures if (m.name, m.on) not in replaced] + list(measures)
    module.probe = probe_of(run.base, name, rows) if settings.probe else None


def take_up(run: ModuleRun, places: Places, *, finish: bool) -> bool:
    """Take up the run in a run's folder; whether it was finished, so that nothing is left to do.

    Args:
        run: as it stands before its first step.
        places: the folders of its modules by name.
        finish: the run is to be finished as it is, for which there must be a checkpoint.

    Raises:
        TrainingError: other settings; nothing to finish; a finished run whose module is gone.
    """
    assert run.folder is not None
    state = None if checkpoint.folders(run.folder) else checkpoint.finished(run.folder)
    if state is not None:
        run.take_up_finished(state)
        for name, place in places.items():
            if not (place / "card.json").exists():
                raise TrainingError(
                    f"{run.folder} is of a finished run, whose module is gone from {place}: train it anew"
                )
            _read(run.base, name, place)
        return True
    run.resume()
    if finish and run.resumed_from is None:
        raise TrainingError(f"there is no checkpoint in {run.folder} to finish from")
    return False


def _read(base: Base, name: str, place: Path) -> None:
    """Give a module what stands in its folder.

    Raises:
        TrainingError: another kind of module stands there.
    """
    module, kept = base.modules[name], load_module(place, base, name=name)
    if (kept.kind, gate_told(kept.card.gate)) != (module.kind, gate_told(module.card.gate)):
        raise TrainingError(
            f"the module in {place} is another by now ({type(kept.kind).__name__}) than the run made of '{name}': train it anew"
        )
    module.load_tensors(kept.tensors())
    module.card, module.probe, module.side = kept.card, kept.probe, kept.side
    module.awaits_text = False
