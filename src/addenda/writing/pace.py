"""The pace of a run on this machine, from a few seconds' rehearsal before its first step, which changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from addenda.writing.batches import Item
from addenda.writing.budget import SCORED
from addenda.writing.corpus_run import CorpusRun
from addenda.writing.memory_run import MemoryRun
from addenda.writing.packing import Row
from addenda.writing.reading import Chunk

#: tokens of the first, short passes, one of which warms up
FIRST = 32
#: seconds that the last pass may take
SECONDS = 3.0


def pace_of(run: CorpusRun) -> float | None:
    """Tokens a second that the run will train on, all modules counted; None where a rehearsal would change something.

    That is so where several processes must go together, and where a compiled model would be compiled for other shapes.
    """
    model = run.base.model
    compiled = getattr(model, "_compiled_call_impl", None) is not None or hasattr(model, "_orig_mod")
    if run.processes.size > 1 or compiled:
        return None
    plan = run.plan
    with _unchanged(run):
        _seconds(run, 1, min(FIRST, plan.length))  # the first of all prepares much
        first = _seconds(run, 1, min(FIRST, plan.length))
        affordable = SECONDS / first * FIRST / len(plan.names)
        length = max(min(FIRST, plan.length), min(plan.length, int(affordable)))
        rows = max(1, min(plan.rows, int(affordable // length)))
        return rows * length * len(plan.names) / _seconds(run, rows, length)


def reading_pace_of(run: MemoryRun) -> float:
    """Tokens a second that `memorize` will read and write, from the time in which the bare base scores some of its text.

    The context is read again for each chunk, a write takes a backward pass, replay is read at each write, and with `baseline`
    the first pass is scored by the bare base too.
    """
    name, reading = next(iter(run.readings.items()))
    chunk = next(reading.chunks())
    fresh = min(chunk.fresh, 2 * FIRST)
    row = [(name, Chunk(chunk.ids[-fresh - 1 :], fresh))]
    seconds = 1.0
    for _ in range(2):  # the first warms up
        began = time.perf_counter()
        run.writer.bare(row)
        seconds = time.perf_counter() - began
    settings = run.options
    again = (run.window - settings.chunk) / settings.chunk
    replay = settings.replay_tokens / settings.chunk if run.writer.replay is not None else 0.0
    cost = settings.steps * (again + (1 + replay) / SCORED)
    cost += (1 + again) / settings.passes if settings.baseline else 0.0
    return fresh / seconds / cost


def _seconds(run: CorpusRun, rows: int, length: int) -> float:
    """Seconds of one pass over so many rows for each module."""
    plan, device = run.plan, run.stepper.device
    width = plan.context + length
    draw = np.random.default_rng(0)
    items: list[Item] = []
    for name in plan.names:
        for number in range(rows):
            ids = draw.integers(run.base.vocabulary, size=width).astype(np.int32)
            row = Row(ids, np.ones(width, np.uint8), np.ones(width, np.int32))
            items.append(Item(row, name, plan.replay is not None and number % 2 == 1))
    began = time.perf_counter()
    run.stepper.rehearse(items)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@contextmanager
def _unchanged(run: CorpusRun) -> Iterator[None]:
    """Put random state and the modules' buffers back after the block."""
    buffers = [buffer for name in run.plan.names for buffer in run.base.modules[name].buffers()]
    before = [buffer.clone() for buffer in buffers]
    device = run.stepper.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for buffer, kept in zip(buffers, before, strict=True):
            buffer.copy_(kept)
