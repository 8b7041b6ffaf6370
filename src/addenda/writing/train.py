"""Train: write a corpus into modules beside the frozen base, and put everything else back as it was."""

# budget: the docstring of `train` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from addenda.core.card import TrainingRecord
from addenda.core.errors import DataError, TrainingError
from addenda.core.files import check_place
from addenda.core.moments import OWNER
from addenda.modulefile.storage import MEMBERS
from addenda.plug.scoring import score
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.text.encoding import Encoder, first_ids
from addenda.writing import checkpoint
from addenda.writing.announce import announce, documents_read, remarks_on
from addenda.writing.distributed import Processes, processes_of
from addenda.writing.gate_fit import awaits_fit, fit_from_plan, tokens_to_fit
from addenda.writing.loop import Run
from addenda.writing.plan import Plan, folder_of, make_plan
from addenda.writing.prepare import check_free, prepared
from addenda.writing.probe import probe_of
from addenda.writing.report import TrainReport
from addenda.writing.run_log import RunLog
from addenda.writing.settings import settings_from
from addenda.writing.signals import TrainingStopped
from addenda.writing.taking_up import take_up
from addenda.writing.validation import is_forgetting

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens from which a module that starts from text may take its start
START_TOKENS = 2**14
#: rows tried for a probe on which a module shows itself
PROBE_ROWS = 8
#: tokens of a corpus, at least and at most, on which a run is compared with the bare base; in between a tenth of the run's
ON_CORPUS = (256, 2048)


def train(
    base: Base,
    name: str | Iterable[str],
    *,
    corpus: Any,
    replay: Any = None,
    replay_share: float = 0.1,
    tokens: int,
    lr: float | Mapping[str, float] | None = None,
    seed: int = 0,
    alongside: Any = (),
    out: str | Path | None = None,
    resume: bool = False,
    finish: bool = False,
    **settings: Any,
) -> TrainReport:
    """Train a plugged module on a corpus; the base is frozen, and only the module changes.

    The module is selected at 1.0 with those `alongside` (which stay as they are); selection, flags, modes and random
    state are put back after, also after an error. Several names train several modules in one batch: each has its own
    corpus, rows, clipping and optimizer, and learns what it would alone.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer.
        name: of a plugged module, or several names.
        corpus: text to learn, whatever `addenda.text.texts.texts` reads: a file or folder of text, JSON lines or parquet, a
            `datasets` object, a hub name, a list. For several modules a mapping of names to texts.
        replay: text that stands for what the base knew before. Penalties are taken on it.
        replay_share: share of the tokens that are replay, from 0 up to 1, where there is replay.
        tokens: to train on, both streams counted (for each module). Whole steps are taken, so a few may be left over.
        lr: peak learning rate, or one for each name; default: the kind's own tested one.
        seed: of the data's order. Same seed, machine, threads and versions: same bits.
        alongside: names, or a mapping of weights, of modules that are on as distractors.
        out: folder for the module (for several modules a folder in it for each). Beside it, `<out>.run` keeps the log, and
            checkpoints until the run is finished. Without `out` nothing is written to disk.
        resume: go on from the last checkpoint in `<out>.run`; from the start where there is none. The run must have
            the same settings, and gives the same bits as one that was never interrupted. A run that is finished is told as it
            was, without a step.
        finish: make the module from the last checkpoint of an interrupted run, without training further; its card says at
            which step.
        settings: see `writing.settings.Settings`.

    Returns:
        What was done and measured; the same goes into the module's card.

    Raises:
        TrainingError: a module is not plugged or is frozen; a rate, share or seed is none; too few tokens for one step;
            loss not finite; resumed with other settings; nothing to finish; a checkpoint cannot be written. `TrainingStopped`
            after SIGINT, SIGTERM or SIGHUP, with a checkpoint and how to go on. Also where something was asked that would be
            ignored: a share of no replay, validations without a text, a gate's settings for modules that have none.
        FileError: `out` holds something else than a module.
        DataError: a source cannot be read (which file, which line), is empty, shorter than a row, the same as the
            other stream, or the tokenizer does not match the base.
        AddendaError: an unknown setting, or one out of range.
    """
    check_free(base)
    chosen = settings_from(settings)
    plan = make_plan(
        base,
        name,
        corpus=corpus,
        replay=replay,
        replay_share=replay_share,
        tokens=tokens,
        lr=lr,
        seed=seed,
        alongside=alongside,
        settings=chosen,
        processes=processes_of(),
    )
    folder = folder_of(out)
    places = {} if folder is None else {n: folder if len(plan.names) == 1 else folder / n for n in plan.names}
    for place in places.values():
        check_place(place, MEMBERS)
    run_folder = checkpoint.begin(folder, resume or finish)
    with ExitStack() as block:
        block.callback(checkpoint.leave, run_folder)
        processes = block.enter_context(Processes(base.device))
        block.enter_context(checkpoint.held(run_folder if processes.first else None))
        if plan.rows % processes.size:
            raise TrainingError(f"batch_rows {plan.rows} cannot be shared by {processes.size} processes")
        block.enter_context(prepared(base, plan.names, seed=seed, gradient_checkpointing=chosen.gradient_checkpointing))
        log = RunLog(
            run_folder if processes.first else None,
            plan.steps,
            show=chosen.log and processes.first,
            tracker=chosen.tracker if processes.first else None,
            name=chosen.run_name or "-".join(plan.names),
            config={"seed": seed, "tokens": tokens, **plan.settings.plain()},
        )
        run = Run(base, plan, processes, block.enter_context(log), run_folder)
        interrupts = block.enter_context(Interrupts(run.promise, raises=processes.size == 1))
        over = (resume or finish) and take_up(run, places, finish=finish)
        freed = 0
        if not over:
            _begin(base, plan, run)
            run.go(interrupts, finish=finish)
            for module_name in plan.names:
                _describe(base, plan, run, module_name)
            freed = _saved(base, run, places)
        seen = _on_corpus(base, plan, run)
    return _report(base, plan, run, folder, freed, seen)


def _begin(base: Base, plan: Plan, run: Run) -> None:
    """Tell what the run will do and take, and make its modules ready for their first step."""
    try:
        if plan.settings.log:
            announce(run)
        if run.resumed_from is None:
            _start(base, plan, run)
    except Stopped as stopped:
        if run.resumed_from is not None:
            raise TrainingStopped.after(run.at, stopped.signal, run.folder) from None
        raise TrainingStopped.after("the first step", stopped.signal, run.folder, begun=False) from None


def _saved(base: Base, run: Run, places: Mapping[str, Path]) -> int:
    """Save the modules, and remove what their run no longer needs; returns how many bytes of it."""
    freed = 0
    if run.processes.first:
        for name, place in places.items():
            base.modules[name].save(place)
        if run.folder is not None:
            freed = checkpoint.finish(run.folder, run.step, run.state(), run.plan.settings.keep_run)
    run.processes.wait()
    return freed


def _start(base: Base, plan: Plan, run: Run) -> None:
    """Start modules that await text from their corpus; fit fresh gates, and give every process the same parameters."""
    for name in plan.names:
        module = base.modules[name]
        if module.awaits_text:
            encoder = Encoder(base.tokenizer, base.vocabulary)
            ids = first_ids(encoder, plan.corpora[name], START_TOKENS)
            base.start_from_text(name, torch.from_numpy(ids).long())
        gate = module.gate
        if gate is not None and awaits_fit(base, plan, name):
            if not plan.settings.gate_fit:
                gate.begin()
            else:
                with run.log.shown.part(f"fitting the gate of {name}", tokens_to_fit(plan)):
                    fit_from_plan(base, plan, name)
        run.processes.share([*module.parameters(), *module.buffers()])
        if run.stepper.guards:
            with run.log.shown.part(f"fitting the penalties of {name}"):
                lines = run.stepper.guards.fit(name)
            for line in lines:
                run.log.say(line)


def _on_corpus(base: Base, plan: Plan, run: Run) -> dict[str, dict[str, float]]:
    """What a run that is told of learned of its own corpus, where no text to learn is held out; the module is saved by now."""
    if not plan.settings.log or any(not is_forgetting(name) for name in plan.validation):
        return {}
    tokens = max(ON_CORPUS[0], min(ON_CORPUS[1], plan.steps * plan.tokens_per_step // 10))
    options: dict[str, Any] = {"tokens": tokens, "precision": plan.settings.precision, "head": run.validation.head}
    seen: dict[str, dict[str, float]] = {}
    with suppress(DataError, Stopped), run.log.shown.part("comparing with the bare base", 2 * tokens * len(plan.names)):
        for name, corpus in plan.corpora.items():  # no token to score among the first: not told
            with base.off():
                bare = score(base, corpus, **options)
            with base.using({name: 1.0}):
                now = score(base, corpus, **options)
            seen[name] = {"bare": bare.nats, "now": now.nats, "tokens": now.tokens}
    return seen


def _report(
    base: Base, plan: Plan, run: Run, out: Path | None, freed: int, on_corpus: dict[str, dict[str, float]]
) -> TrainReport:
    split: dict[bool, dict[str, dict[str, Any]]] = {True: {}, False: {}}
    for name, texts in run.changes.items():
        for on, change in texts.items():
            split[is_forgetting(on)].setdefault(name, {})[on] = change
    return TrainReport(
        names=plan.names,
        steps=run.step,
        tokens=run.step * plan.tokens_per_step,
        seconds=run.seconds,
        seconds_here=run.seconds_here,
        losses=run.losses,
        learning=split[False],
        forgetting=split[True],
        parameters={name: base.modules[name].size() for name in plan.names},
        stopped_early=run.stopped_early,
        resumed_from=run.resumed_from,
        out=out,
        data_crc=run.mixture.crc,
        settings={"length": plan.length, "context": plan.context, "lr": plan.lr, "local": plan.local}
        | {k: v for k, v in plan.settings.plain().items() if k not in ("length", "context", "local")},
        history=run.log.history,
        remarks=remarks_on(base, plan),
        planned_steps=plan.steps,
        run=run.folder,
        freed=freed,
        on_corpus=on_corpus,
    )


def _describe(base: Base, plan: Plan, run: Run, name: str) -> None:
    """Write the run into the module's card, and keep second moments and a probe."""
    module = base.modules[name]
    module.keep_beside(OWNER, run.stepper.moments[name].kept())
    card, data = module.card, plan.data(name)
    epoch, rows = run.mixture.corpora[name].position
    read = documents_read(base, plan, name, rows) if not epoch else None
    data[0].read = read if read != data[0].documents else None
    record = TrainingRecord(
        objective=plan.objective.called(),
        tokens=run.step * plan.tokens_per_step,
        steps=run.step,
        seed=plan.seed,
        lr=plan.lr[name],
        settings=plan.settings.plain()
        | {"length": plan.length, "local": plan.local[name], "replay_share": plan.replay_share}
        | ({"kept": kept} if (kept := run.stepper.guards.kept[name]) else {})
        | ({} if run.step == plan.steps else {"ended": run.ended}),
        data=data,
    )
    card.training = [*card.training, record]
    card.licence = plan.settings.licence or card.licence
    new = run.validation.measures(run.changes.get(name, {}))
    replaced = {(measure.name, measure.on) for measure in new}
    card.measures = [m for m in card.measures if (m.name, m.on) not in replaced] + new
    module.probe = probe_of(base, name, _probe_rows(base, plan, name)) if plan.settings.probe else None


def _probe_rows(base: Base, plan: Plan, name: str) -> Iterator[np.ndarray]:
    """The first rows of a module's corpus, to look for a probe in."""
    corpus = plan.mixture(base).corpora[name]
    for _ in range(PROBE_ROWS):
        yield corpus.take().ids


__all__ = ["TrainReport", "train"]
