"""Train: write a corpus into modules beside the frozen base, and put everything else back as it was."""

# budget: the docstring of `train` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from addenda.core.card import TrainingRecord
from addenda.core.errors import DataError, TrainingError
from addenda.core.moments import OWNER
from addenda.plug.scoring import score
from addenda.telling.interrupts import Stopped
from addenda.text.encoding import Encoder, first_ids
from addenda.writing.announce import announce, documents_read, remarks_on
from addenda.writing.asked import folder_of
from addenda.writing.conduct import conduct, written
from addenda.writing.corpus_run import CorpusRun
from addenda.writing.distributed import Processes, processes_of
from addenda.writing.gate_fit import awaits_fit, fit_from_plan, tokens_to_fit
from addenda.writing.plan import Plan, make_plan
from addenda.writing.prepare import check_free
from addenda.writing.report import TrainReport
from addenda.writing.run_log import RunLog
from addenda.writing.settings import settings_from
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

    def make(log: RunLog, run_folder: Path | None, processes: Processes) -> CorpusRun:
        if plan.rows % processes.size:
            raise TrainingError(f"batch_rows {plan.rows} cannot be shared by {processes.size} processes")
        return CorpusRun(base, plan, log, run_folder, processes)

    folder, seen = folder_of(out), dict[str, dict[str, float]]()
    run, freed = conduct(
        base, plan.names, make, out=folder, resume=resume, finish=finish, seed=seed, settings=chosen,
        logged={
            "steps": plan.steps,
            "tracker": chosen.tracker,
            "name": chosen.run_name or "-".join(plan.names),
            "config": {"seed": seed, "tokens": tokens, **plan.settings.plain()},
        },
        tell=announce, start=_start, describe=_describe, close=lambda run: seen.update(_on_corpus(run)),
        gradient_checkpointing=chosen.gradient_checkpointing,
    )  # fmt: skip
    return _report(run, folder, freed, seen)


def _start(run: CorpusRun) -> None:
    """Start modules that await text from their corpus; fit fresh gates, and give every process the same parameters."""
    base, plan = run.base, run.plan
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


def _on_corpus(run: CorpusRun) -> dict[str, dict[str, float]]:
    """What a run that is told of learned of its own corpus, where no text to learn is held out; the module is saved by now."""
    base, plan = run.base, run.plan
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


def _report(run: CorpusRun, out: Path | None, freed: int, on_corpus: dict[str, dict[str, float]]) -> TrainReport:
    base, plan = run.base, run.plan
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


def _describe(run: CorpusRun) -> None:
    """Write the run into the modules' cards, and keep second moments and probes."""
    base, plan = run.base, run.plan
    for name in plan.names:
        module, data = base.modules[name], plan.data(name)
        module.keep_beside(OWNER, run.stepper.moments[name].kept())
        epoch, rows = run.mixture.corpora[name].position
        read = documents_read(base, plan, name, rows) if not epoch and run.rounds is None else None
        data[0].read = read if read != data[0].documents else None
        record = TrainingRecord(
            objective=plan.objective.called(),
            tokens=run.step * plan.tokens_per_step,
            steps=run.step,
            seed=plan.seed,
            lr=plan.lr[name],
            settings=plan.settings.plain()
            | {"length": plan.length, "local": plan.local[name], "replay_share": plan.replay_share}
            | ({"kept": kept} if (kept := run.stepper.guards.kept[name]) else {}),
            data=data,
        )
        measures = run.validation.measures(run.changes.get(name, {}))
        written(run, name, plan.settings, record, measures, _probe_rows(base, plan, name))


def _probe_rows(base: Base, plan: Plan, name: str) -> Iterator[np.ndarray]:
    """The first rows of a module's corpus, to look for a probe in."""
    corpus = plan.mixture(base).corpora[name]
    for _ in range(PROBE_ROWS):
        yield corpus.take().ids


__all__ = ["TrainReport", "train"]
