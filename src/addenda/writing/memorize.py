"""Memorize: read a text once in a stream, and carry it from then on in a memory beside the frozen base."""

# budget: the docstring of `memorize` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from addenda.core.card import TrainingRecord
from addenda.core.contracts import Kind
from addenda.core.errors import TrainingError
from addenda.core.moments import OWNER
from addenda.core.registry import kinds
from addenda.core.slots import START_TOKENS
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writing.announce import announce_reading
from addenda.writing.asked import check_learns, folder_of, texts_by_name
from addenda.writing.conduct import conduct, written
from addenda.writing.distributed import Processes
from addenda.writing.gate_fit import fit_gate
from addenda.writing.memory_report import MemorizeReport, Online
from addenda.writing.memory_run import MemoryRun
from addenda.writing.memory_settings import MemorySettings, memory_settings
from addenda.writing.packing import Feed, Row, Stream
from addenda.writing.prepare import check_free
from addenda.writing.reading import Reading, text_of
from addenda.writing.run_log import RunLog
from addenda.writing.writer import Writer

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens that the model reads at a time, where its context is not shorter
WINDOW = 2048
#: chunks tried for a probe
PROBE_CHUNKS = 4
#: tokens of a row that a gate is fitted to
GATE_LENGTH = 256
REPLAY = 1


def memorize(
    base: Base,
    name: str | Iterable[str],
    *,
    text: Any,
    kind: Kind | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    finish: bool = False,
    **settings: Any,
) -> MemorizeReport:
    """Read a text once, chunk by chunk, and write each chunk into a module after it was scored; the base is frozen.

    It lowers the loss of the text's continuation. It is not for questions about the text: facts are hardly recalled.

    Each chunk is first predicted from the window before it and from what the memory holds by then (the online loss), and
    then written: one step of AdamW on its loss. Memory in use does not grow with the text. Any kind can be written so;
    `LoRA` gives the rival TempLoRA. Several names read several texts at once, as rows of one batch.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer.
        name: of a module, or several names. One that is not plugged is made new, as `kind` says.
        text: the text itself, a path, or whatever `addenda.text.texts.texts` reads. For several names a mapping of names to
            texts.
        kind: of modules that are not plugged; default: `LocasGLU(scale=16.0)`, kept quiet on general text; with `published=True`
            `LocasGLU()` by itself; `LocasMLP(scale=16.0, eps=0.3)` where FFNs are plain, `compress="published"` if that is asked.
        out: folder for the module (for several a folder in it for each). Beside it, `<out>.run` keeps the log, and
            checkpoints until the run is finished. Without `out` nothing is written to disk.
        resume: go on from the last checkpoint in `<out>.run`, with the same settings; gives the same bits as a run that
            was never interrupted. A run that is finished is told as it was, without a step.
        finish: make the memory from the last checkpoint of an interrupted run, without reading further.
        settings: see `writing.memory_settings.MemorySettings`.

    Returns:
        What was read and how well it was predicted, with the memory and without; the curve by position.

    Source: the streaming of Locas, arXiv:2602.05085, and of TempLoRA (Wang et al. 2024, arXiv:2401.11504). Ours: the
    local neutrality loss on replay text.

    Raises:
        TrainingError: a module is frozen; loss not finite; resumed with other settings; nothing to finish; a checkpoint cannot
            be written.
            `TrainingStopped` after SIGINT, SIGTERM or SIGHUP, with a checkpoint and how to go on.
        FileError: `out` holds something else than a module.
        DataError: a text cannot be read or is empty, or the tokenizer does not match the base.
        AddendaError: an unknown setting, or one out of range; `out` is no path.
    """
    check_free(base)
    chosen = memory_settings(settings)
    names = (name,) if isinstance(name, str) else tuple(name)
    if not names or len(set(names)) < len(names):
        raise TrainingError(f"memorize takes one module, or several different ones; got {list(names)}")
    for there in base.modules.keys() & set(names):
        base.modules[there].check_adapts("train")
    sources = texts_by_name(names, text, "several memories take one text each: text", text_of)
    folder, readings = folder_of(out), _readings(base, sources, chosen)
    steps = chosen.passes * max(reading.steps for reading in readings.values())
    with _plugged(base, names, kind or default_kind(base, chosen.published), chosen.seed):

        def make(log: RunLog, run_folder: Path | None, processes: Processes) -> MemoryRun:
            return _run(base, names, readings, chosen, log, run_folder)

        run, freed = conduct(
            base, names, make, out=folder, resume=resume, finish=finish, seed=chosen.seed, settings=chosen,
            logged={"config": chosen.plain(), "task": "memorizing", "unit": "chunks", "steps": steps},
            tell=announce_reading, start=_start, describe=_describe,
        )  # fmt: skip
    return _report(run, folder, freed)


@contextmanager
def _plugged(base: Base, names: Sequence[str], kind: Kind, seed: int) -> Iterator[None]:
    """For a block, modules of these names; those that were made for it stay, unless it ends with an error."""
    made: list[str] = []
    try:
        for name in names:
            if name not in base.modules:
                base.new(name, kind, seed=seed)
                made.append(name)
        yield
    except BaseException:
        for name in made:
            base.unplug(name)
        raise


def default_kind(base: Base, published: bool = False) -> Kind:
    """The memory that fits the base's FFNs: values may say more than the published tau allows, unless that is asked for."""
    fitting = (kind.memory(base.anatomy, published) for kind in kinds().values())
    return next(kind for kind in fitting if kind is not None)


def window_of(base: Base, settings: MemorySettings) -> int:
    """Tokens that the base reads at a time: those asked for, else `WINDOW`, or its context where that is shorter.

    Raises:
        TrainingError: they do not fit its context, or a chunk leaves no room for any.
    """
    most = base.context or WINDOW
    window = min(WINDOW, most) if settings.window is None else settings.window
    if window > most:
        raise TrainingError(f"a window of {window} tokens does not fit the base's context of {most}")
    if settings.chunk >= window:
        raise TrainingError(
            f"chunks of {settings.chunk} tokens leave no room for context in a window of {window}; give a smaller chunk"
        )
    return window


def _readings(base: Base, sources: dict[str, Texts], settings: MemorySettings) -> dict[str, Reading]:
    """The texts, their tokens counted: what a run will do is told before anything else."""
    window, encoder = window_of(base, settings), Encoder(base.tokenizer, base.vocabulary)
    readings = {n: Reading(s, encoder, chunk=settings.chunk, window=window) for n, s in sources.items()}
    for reading in readings.values():
        if not reading.tokens:
            next(reading.chunks())  # raises, and says what is wrong with the text
    return readings


def _run(
    base: Base,
    names: tuple[str, ...],
    readings: dict[str, Reading],
    settings: MemorySettings,
    log: RunLog,
    run_folder: Path | None,
) -> MemoryRun:
    replay, source = None, settings.replay_for([base.modules[n] for n in names])
    if source is not None:
        closing = Encoder(base.tokenizer, base.vocabulary, close=True)
        replay = Feed(Stream(texts(source), closing, length=settings.replay_tokens, seed=settings.seed, code=REPLAY))
    for n in names:
        check_learns(base.modules[n])
    rates = {n: base.modules[n].kind.default_lr if settings.lr is None else settings.lr for n in names}
    writer = Writer(base, names, rates, settings, replay)
    return MemoryRun(base, readings, writer, settings, log, run_folder)


def _start(run: MemoryRun) -> None:
    """Start modules that await text from the first tokens of theirs."""
    base, settings = run.base, run.options
    for name, reading in run.readings.items():
        module = base.modules[name]
        if module.awaits_text:
            if not settings.rule(module).started:
                module.awaits_text = False
                continue
            base.start_from_text(name, torch.from_numpy(_beginning(reading)).long())
        replay = run.writer.replay
        if module.gate is not None and module.gate.fresh and replay is not None:
            if module.gate.taught:
                module.gate.begin()
            else:
                _fit_gate(base, name, reading, replay, settings)


def _fit_gate(base: Base, name: str, reading: Reading, replay: Feed, settings: MemorySettings) -> None:
    """Fit a gate that is not taught along the way to the beginning of the text, and as much replay."""
    rows = -(-START_TOKENS // GATE_LENGTH)
    beginning = _beginning(reading)
    length = min(GATE_LENGTH, len(beginning))
    cut = [beginning[at : at + length] for at in range(0, len(beginning) - length + 1, length)]
    subject = (Row(ids, np.ones(length, np.uint8), np.ones(length, np.int32)) for ids in cut)
    again = replay.stream
    others = Stream(again.source, again.encoder, length=length, seed=settings.seed, code=REPLAY)
    fit_gate(
        base, name, subject, islice(others.rows(0), rows), rows=8, seed=settings.seed, precision=settings.precision
    )


def _beginning(reading: Reading) -> np.ndarray:
    """The first tokens of a text, START_TOKENS of them if it has so many."""
    chunks = islice(reading.chunks(), -(-START_TOKENS // reading.chunk))
    return np.concatenate([chunk.ids[-chunk.fresh :] for chunk in chunks])


def _report(run: MemoryRun, out: Path | None, freed: int) -> MemorizeReport:
    return MemorizeReport(
        names=run.names,
        texts={name: _online(run, name) for name in run.names},
        seconds=run.seconds,
        bare_seconds=run.aside,
        parameters={name: run.base.modules[name].size() for name in run.names},
        resumed_from=run.resumed_from,
        out=out,
        read=run.read,
        run=run.folder,
        freed=freed,
        ended=run.ended,
        settings={"window": run.window, "lr": run.writer.lr}
        | {k: v for k, v in run.options.plain().items() if k not in ("window", "lr")},
    )


def _online(run: MemoryRun, name: str) -> Online:
    return Online(run.curves[name], run.readings[name].source.name, run.options.baseline)


def _describe(run: MemoryRun) -> None:
    """Write the run into the modules' cards, and keep probes."""
    replay, settings = run.writer.replay, run.options
    for name, reading in run.readings.items():
        online = _online(run, name)
        record = TrainingRecord(
            objective="memorize",
            tokens=online.tokens,
            steps=run.step,
            seed=settings.seed,
            lr=run.writer.lr[name],
            settings=settings.plain() | {"window": run.window},
            data=[reading.source.record("corpus")]
            + ([] if replay is None else [replay.stream.source.record("replay")]),
        )
        # a training's moments are of parameters that are no more
        run.base.modules[name].keep_beside(OWNER, {})
        first = (chunk.ids for chunk in islice(reading.chunks(), PROBE_CHUNKS))
        written(run, name, settings, record, online.measures(), first)
