"""Study: what a memory keeps of a book it has read once, against what it forgets; Locas, quiet Locas and TempLoRA.

    python -m recipes.locas                 # every run that has no record yet, then tables and plots
    python -m recipes.locas --report        # tables and plots of the records there are
    python -m recipes.locas --dry-run       # what is done and what is to do

The base is `tiny`; the books are long novels that it was never trained on. Each run reads a stretch of a book once, from
windows of 512 tokens, in chunks of 256; a seed is a stretch of its own. First a sweep on one book: every method over its
learning rates and knobs. Then, on all books and seeds, each method's settings that no other of its own betters; starts,
widths and layers of the memory that gained most; and two whole books. Numbers are nats per token: gain = taken off what
the truncated window loses over the last quarter of what was read, forgetting = added on held-out general text afterwards.
Time is that of the CPU, start and probe of a memory included.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import time
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.plug.scoring import Score, score
from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from addenda.writing.curve import Curve
from addenda.writing.memory_settings import MemorySettings
from addenda.writing.reading import Reading
from addenda.writing.writer import Writer
from recipes.common import data_folder, kind_as_recorded, load, place, precision, study_texts
from recipes.memory_plan import BOOKS, CHUNK, WINDOW, Run, ablations, study, sweep, whole
from recipes.records import Records, recorded, stamp
from recipes.study import conduct, parser_of

#: tokens of held-out general text that forgetting is measured on
GENERAL = 20_000
#: parts of what was read whose loss is reported: from the beginning, and the last quarter
PARTS = ((0.0, 0.25), (0.0, 0.5), (0.0, 1.0), (0.75, 1.0))
#: pieces of what was read whose losses are drawn
PIECES = 20


@cache
def text_of(book: str) -> str:
    """A whole book from `ADDENDA_DATA`.

    Raises:
        AddendaError: it is not there.
    """
    data = data_folder() / "long_books"
    paths = sorted(data.glob(f"{book}*.txt.gz"))
    if not paths:
        raise addenda.AddendaError(f"no book '{book}' in {data}; ADDENDA_DATA names the folder of the data")
    with gzip.open(paths[0], "rt", encoding="utf-8") as lines:
        return lines.read()


@cache
def base_of(where: str = "tiny") -> addenda.Base:
    """The base of all runs of a process, by name or folder."""
    return load(where)


@lru_cache(maxsize=2)
def stretch(book: str, tokens: int | None, seed: int) -> str:
    """The n-th stretch of so many tokens of a book, n the seed; or all of it."""
    if tokens is None:
        return text_of(book)
    tokenizer, text = base_of().tokenizer, text_of(book)
    ids = tokenizer(text[: tokens * (seed + 1) * 8], verbose=False, add_special_tokens=False)["input_ids"]
    ids = ids[tokens * seed : tokens * (seed + 1)]
    if len(ids) < tokens:
        raise addenda.AddendaError(f"'{book}' has no stretch number {seed} of {tokens} tokens")
    return tokenizer.decode(ids)


@lru_cache(maxsize=4)
def plain(book: str, tokens: int | None, seed: int, window: int, where: str) -> tuple[Curve, float]:
    """How a bare base predicts a stretch from a window that moves by a chunk, and the CPU seconds that took."""
    base = base_of(where)
    settings = MemorySettings(window=window, chunk=CHUNK, precision=precision())
    writer, curve = Writer(base, (), {}, settings, None), Curve()
    reading = Reading(
        texts([stretch(book, tokens, seed)]), Encoder(base.tokenizer, base.vocabulary), chunk=CHUNK, window=window
    )
    began = time.process_time()
    with torch.no_grad():
        for chunk in reading.chunks():
            (nats,) = writer.bare([("text", chunk)]).values()
            curve.add(chunk.fresh, nats, nats)
    return curve, time.process_time() - began


@cache
def held_out(where: str) -> Score:
    """A bare base's losses on held-out general text."""
    return _general(base_of(where))


def _general(base: addenda.Base) -> Score:
    return score(base, study_texts().general_valid, tokens=GENERAL, precision=precision())


def memorized(base: addenda.Base, text: str, run: Any, *, baseline: bool) -> addenda.MemorizeReport:
    """Read a text into the module `m`, with the kind, options, settings and seed of a run."""
    settings = dict(run.settings)
    settings["replay"] = study_texts().replay if settings.get("replay") else None
    return addenda.memorize(
        base, "m", text=text, kind=kind_as_recorded(run.kind, run.options), seed=run.seed, baseline=baseline,
        window=WINDOW, chunk=CHUNK, precision=precision(), log=False, **settings,
    )  # fmt: skip


def read(run: Run, where: str = "tiny") -> dict[str, Any]:
    """Read the book and measure: the record of a run."""
    base, text = base_of(where), stretch(run.book, run.tokens, run.seed)
    bare, bare_seconds = plain(run.book, run.tokens, run.seed, WINDOW, where)
    result: dict[str, Any] = {"parameters": 0, "forgetting": 0.0}
    if run.kind:
        general = held_out(where)
        try:
            began = time.process_time()
            report = memorized(base, text, run, baseline=False)
            seconds = time.process_time() - began
            with base.using("m"):
                lost = _general(base).minus(general)
        finally:
            if "m" in base.modules:
                base.unplug("m")
        curve = report.texts["m"].curve
        result = {"parameters": report.parameters["m"], "forgetting": lost.nats}
        result["forgetting_interval"] = [lost.low, lost.high]
    else:
        curve, seconds = plain(run.book, run.tokens, run.seed, run.window, where)
    losses = [(curve.between(*part)[0], bare.between(*part)[0]) for part in PARTS]
    return stamp(run, base) | {
        "gain": losses[-1][1] - losses[-1][0],
        "losses": [{"from": a, "to": b, "nats": n, "bare": m} for (a, b), (n, m) in zip(PARTS, losses, strict=True)],
        "by_position": [curve.between(n / PIECES, (n + 1) / PIECES)[0] for n in range(PIECES)],
        **result,
        "tokens": int(curve.totals()[0]),
        # of a GPU, which other runs share, CPU time says nothing
        "time": seconds / bare_seconds if place().type == "cpu" else None,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def execute(run: Run, records: Path) -> str:
    """Read the book and write the record."""
    return recorded(run, records, read(run))


def after(given: argparse.Namespace, records: Records) -> Iterator[Run]:
    """What follows from a sweep's records."""
    tokens, seeds = given.tokens, given.seeds
    every = chain(
        study(records, tokens, seeds, given.books), ablations(records, tokens, seeds, BOOKS[:1]), whole(records)
    )
    return (run for run in every if run.part in given.parts)


def main(words: Sequence[str] | None = None) -> None:
    """Run what is not done yet, then report."""
    from recipes.memory_frontier import report

    parser, parts = parser_of(__doc__, workers=2, tokens=30_000), ["study", "starts", "widths", "layers", "whole"]
    parser.add_argument("--books", nargs="+", default=list(BOOKS))
    parser.add_argument("--parts", nargs="+", default=parts, help="only these, after the sweep")
    conduct("locas", parser.parse_args(words), [lambda given, _: sweep(given.tokens), after], execute, report)


if __name__ == "__main__":
    main()
