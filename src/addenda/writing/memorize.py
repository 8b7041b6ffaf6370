"""Memorize: read a text once in a stream, and carry it from then on in a memory beside the frozen base."""

# budget: the docstring of `memorize` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from addenda.core.card import TrainingRecord
from addenda.core.contracts import Kind
from addenda.core.errors import DataError, TrainingError
from addenda.core.files import check_place
from addenda.core.moments import OWNER
from addenda.core.slots import START_TOKENS
from addenda.kinds.locas_glu import LocasGLU
from addenda.kinds.locas_mlp import LocasMLP
from addenda.modulefile.storage import MEMBERS
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writing import checkpoint
from addenda.writing.announce import announce_reading
from addenda.writing.gate_fit import fit_gate
from addenda.writing.memory_report import MemorizeReport, Online
from addenda.writing.memory_run import MemoryRun
from addenda.writing.memory_settings import MemorySettings, memory_settings
from addenda.writing.packing import Feed, Row, Stream
from addenda.writing.plan import folder_of
from addenda.writing.prepare import check_free, prepared
from addenda.writing.probe import probe_of
from addenda.writing.reading import Reading, text_of
from addenda.writing.run_log import RunLog
from addenda.writing.signals import TrainingStopped
from addenda.writing.taking_up import take_up
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
#: multiplier of tau: the published one gains two thirds as much (docs/results/locas.md)
SCALE = 16.0
#: length of a slot written in closed form, where its value is multiplied so
EPS = 0.3


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
    for known_already in base.modules.keys() & set(names):
        base.modules[known_already].check_adapts("train")
    sources = _sources(names, text)
    folder = folder_of(out)
    places = {} if folder is None else {n: folder if len(names) == 1 else folder / n for n in names}
    for place in places.values():
        check_place(place, MEMBERS)
    window = _window(base, chosen)
    run_folder = checkpoint.begin(folder, resume or finish)
    made: list[str] = []
    try:
        for new in [n for n in names if n not in base.modules]:
            base.new(new, kind or default_kind(base, chosen.published), seed=chosen.seed)
            made.append(new)
        with ExitStack() as block:
            block.enter_context(checkpoint.held(run_folder))
            block.enter_context(prepared(base, names, seed=chosen.seed, gradient_checkpointing=False))
            run = _run(base, names, sources, chosen, window, run_folder)
            block.enter_context(run.log)
            interrupts = block.enter_context(Interrupts(run.promise))
            over = (resume or finish) and take_up(run, places, finish=finish)
            if not over:
                _begin(base, run)
                run.go(interrupts, finish=finish)
            report = _report(base, run, folder)
            if not over:
                for n in names:
                    _describe(base, run, n, report.texts[n])
                for n, place in places.items():
                    base.modules[n].save(place)
                if run_folder is not None:
                    freed = checkpoint.finish(run_folder, run.step, run.state(), chosen.keep_run)
                    report = replace(report, freed=freed)
    except BaseException:
        for new in made:
            base.unplug(new)
        checkpoint.leave(run_folder)
        raise
    return report


def default_kind(base: Base, published: bool = False) -> Kind:
    """The memory that fits the base's FFNs: values may say more than the published tau allows, unless that is asked for."""
    shape = base.anatomy.ffn
    if shape is not None and not shape.gated:
        return LocasMLP(compress="published") if published else LocasMLP(scale=SCALE, eps=EPS)
    return LocasGLU() if published else LocasGLU(scale=SCALE)


def _sources(names: tuple[str, ...], text: Any) -> dict[str, Texts]:
    if not names or len(set(names)) < len(names):
        raise TrainingError(f"memorize takes one module, or several different ones; got {list(names)}")
    by_name = isinstance(text, Mapping) and set(text) == set(names)
    if len(names) == 1 and not by_name:
        return {names[0]: text_of(text)}
    if not by_name:
        raise DataError(f"several memories take one text each: text={{{', '.join(f'{n!r}: ...' for n in names)}}}")
    return {name: text_of(text[name]) for name in names}


def _window(base: Base, settings: MemorySettings) -> int:
    most = base.context or WINDOW
    window = min(WINDOW, most) if settings.window is None else settings.window
    if window > most:
        raise TrainingError(f"a window of {window} tokens does not fit the base's context of {most}")
    if settings.chunk >= window:
        raise TrainingError(
            f"chunks of {settings.chunk} tokens leave no room for context in a window of {window}; give a smaller chunk"
        )
    return window


def _run(
    base: Base,
    names: tuple[str, ...],
    sources: dict[str, Texts],
    settings: MemorySettings,
    window: int,
    run_folder: Path | None,
) -> MemoryRun:
    vocabulary = base.vocabulary
    encoder = Encoder(base.tokenizer, vocabulary)
    readings = {n: Reading(s, encoder, chunk=settings.chunk, window=window) for n, s in sources.items()}
    replay, source = None, settings.replay_for([base.modules[n] for n in names])
    if source is not None:
        closing = Encoder(base.tokenizer, vocabulary, close=True)
        replay = Feed(Stream(texts(source), closing, length=settings.replay_tokens, seed=settings.seed, code=REPLAY))
    for n in names:
        if not any(p.requires_grad for p in base.modules[n].parameters()):
            raise TrainingError(f"module '{n}' is frozen: none of its parameters wants a gradient")
    rates = {n: base.modules[n].kind.default_lr if settings.lr is None else settings.lr for n in names}
    writer = Writer(base, names, rates, settings, replay)
    log = RunLog(
        run_folder, None, show=settings.log, tracker=None, name="-".join(names), config=settings.plain(),
        task="memorizing", unit="chunks",
    )  # fmt: skip
    return MemoryRun(base, readings, writer, settings, log, run_folder)


def _begin(base: Base, run: MemoryRun) -> None:
    """Make the memories ready for their first chunk, and tell what the run will do and take."""
    try:
        if run.resumed_from is None:
            _start(base, run)
        if run.settings.log:
            announce_reading(run)
    except Stopped as stopped:
        if run.resumed_from is not None:
            raise TrainingStopped.after(run.at, stopped.signal, run.folder) from None
        raise TrainingStopped.after("the first chunk", stopped.signal, run.folder, begun=False) from None


def _start(base: Base, run: MemoryRun) -> None:
    """Start modules that await text from the first tokens of theirs."""
    for name, reading in run.readings.items():
        module = base.modules[name]
        if module.awaits_text:
            if run.settings.in_closed_form(module.kind):  # it writes keys of its own
                module.awaits_text = False
                continue
            base.start_from_text(name, torch.from_numpy(_beginning(reading)).long())
        replay = run.writer.replay
        if module.gate is not None and module.gate.fresh and replay is not None:
            if module.gate.taught:
                module.gate.begin()
            else:
                _fit_gate(base, name, reading, replay, run.settings)


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


def _report(base: Base, run: MemoryRun, out: Path | None) -> MemorizeReport:
    return MemorizeReport(
        names=run.writer.names,
        texts={
            name: Online(curve, run.readings[name].source.name, run.settings.baseline)
            for name, curve in run.curves.items()
        },
        seconds=run.seconds,
        bare_seconds=run.bare_seconds,
        parameters={name: base.modules[name].size() for name in run.writer.names},
        resumed_from=run.resumed_from,
        out=out,
        read=run.read,
        run=run.folder,
        ended=run.ended,
        settings={"window": run.window, "lr": run.writer.lr}
        | {k: v for k, v in run.settings.plain().items() if k not in ("window", "lr")},
    )


def _describe(base: Base, run: MemoryRun, name: str, online: Online) -> None:
    """Write the run into the module's card, and keep a probe."""
    module, reading = base.modules[name], run.readings[name]
    replay = run.writer.replay
    record = TrainingRecord(
        objective="memorize",
        tokens=online.tokens,
        steps=run.step,
        seed=run.settings.seed,
        lr=run.writer.lr[name],
        settings=run.settings.plain() | {"window": run.window} | ({} if run.ended is None else {"ended": run.ended}),
        data=[reading.source.record("corpus")] + ([] if replay is None else [replay.stream.source.record("replay")]),
    )
    module.card.training = [*module.card.training, record]
    module.keep_beside(OWNER, {})  # a training's moments are of parameters that are no more
    module.card.licence = run.settings.licence or module.card.licence
    replaced = {(measure.name, measure.on) for measure in online.measures()}
    module.card.measures = [m for m in module.card.measures if (m.name, m.on) not in replaced] + online.measures()
    if run.settings.probe:
        module.probe = probe_of(base, name, (chunk.ids for chunk in islice(reading.chunks(), PROBE_CHUNKS)))
