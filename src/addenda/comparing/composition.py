"""Composition: modules trained apart and plugged together: what each keeps of its own gain, and who disturbs whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from addenda.comparing.methods import Method, Size
from addenda.comparing.settings import CompareSettings
from addenda.comparing.window import first_documents
from addenda.comparing.work import described, mark, records_of, where
from addenda.core.errors import DataError
from addenda.core.files import kept_json, replace_text
from addenda.core.plain import Plain
from addenda.core.site import Seam
from addenda.plug.base import Base
from addenda.plug.scoring import score
from addenda.telling.intervals import Interval, of_ratio
from addenda.text.texts import Texts, texts
from addenda.writing.train import train

#: how many modules are plugged together, up to what is asked
COUNTS = (1, 2, 4, 8)
#: parts from which on a share has an interval
LEAST = 3
#: modules of other parts that are on while a module learns, where it is trained among distractors
DISTRACTORS = 2
PART = "part-"
#: settings that decide what is found here
KEPT = ("replay_share", "length", "batch_rows", "held_tokens", "precision", "compose")


@dataclass(frozen=True)
class Composed(Plain):
    """Modules of one method together.

    `alone` is each module's gain on the beginning of its own part of the corpus, on which it was trained, nats per token; `kept`
    by number of modules the share of it that is left when the first so many are all on at weight 1, with its interval over
    parts, from three on (below, and where one gained nothing alone, its ends are the share itself; `n` is 0 where none did);
    `pairs[i][j]` what plugging module j beside module i adds to the loss on part i (0 on the diagonal). `distractors` says that
    each was trained among others.
    """

    method: str
    distractors: bool
    alone: tuple[float, ...]
    kept: dict[int, Interval]
    pairs: tuple[tuple[float, ...], ...]


def parts_of(corpus: Texts, count: int) -> list[Texts]:
    """The documents of a corpus dealt out into so many parts.

    Raises:
        DataError: it has fewer documents.
    """
    records = records_of(corpus)
    if len(records) < count:
        raise DataError(f"'{corpus.name}' has {len(records)} documents, too few for {count} parts")
    return [texts(records[at::count], name=f"{corpus.name}, part {at}") for at in range(count)]


def compose(
    base: Base,
    method: Method,
    corpus: Texts,
    replay: Texts | None,
    settings: CompareSettings,
    *,
    rate: float,
    out: Path,
    distractors: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Composed:
    """Train a module of a method on each part of a corpus, plug them together, and measure.

    A part holds no more than its module reads in training, and the module is measured on its beginning: on what was written, not
    on what it generalizes to. On held-out text all parts' modules would do much the same.

    Args:
        base: the base.
        method: one that trains modules.
        corpus: dealt out into `settings.compose` parts; for each part there are `settings.tokens / settings.compose` tokens.
        replay: text that stands for what the base knew before.
        settings: of the comparison.
        rate: learning rate.
        out: folder for modules and records; what is there is not made again.
        distractors: train each while modules of other parts, trained before without distractors, are on.
        tell: told what is being done.

    Raises:
        DataError: the corpus has too few documents.
    """
    assert method.kind is not None
    kind = method.kind(base, Size(settings.extra, settings.count, settings.rank))
    budget = max(settings.batch_rows * settings.length, settings.tokens // settings.compose)
    replayed = "" if replay is None else replay.identity()
    step = settings.batch_rows * settings.length
    share = 0.0 if replay is None else settings.replay_share
    read = max(2 * settings.length, round(budget // step * step * (1 - share)))
    identity = [described(kind), rate, budget, read, base.fingerprint, corpus.identity(), replayed]
    identity += [settings.seeds[:1], *(getattr(settings, name) for name in KEPT), *where(base).values()]
    known = f"{method.name}-{mark(identity)}"
    record = out / f"{known}{'-among' if distractors else ''}.json"
    if record.exists():
        return _read(record)
    parts = [_cut(base, part, read) for part in parts_of(corpus, settings.compose)]
    apart = _Apart(base, kind, parts, replay, settings, rate, budget, out / known, tell)
    try:
        names = apart.plugged(method.name)
        if distractors:
            apart.again_among_others(method.name)
        composed = _measured(base, method.name, distractors, names, apart.parts, settings)
    finally:
        for name in [name for name in base.modules if name.startswith(PART)]:
            base.unplug(name)
    replace_text(record, json.dumps(composed.as_dict()) + "\n")
    return composed


def _cut(base: Base, part: Texts, tokens: int) -> Texts:
    """The beginning of a part, no longer than is read of it."""
    return texts(first_documents(base, part, tokens, close=True), name=part.name)


@dataclass(frozen=True)
class _Apart:
    """Modules of parts, each trained by itself and kept in `folder`."""

    base: Base
    kind: Any
    parts: Sequence[Texts]
    replay: Texts | None
    settings: CompareSettings
    rate: float
    budget: int
    folder: Path
    tell: Callable[[str], None]

    def plugged(self, told: str) -> list[str]:
        """All modules, plugged: trained now, or before."""
        names = [f"{PART}{at}" for at in range(len(self.parts))]
        for at, name in enumerate(names):
            if (self.folder / name / "card.json").exists():
                self.base.plug(self.folder / name, name=name)
            else:
                self._train(at, name, (), told)
        return names

    def again_among_others(self, told: str) -> None:
        """In place of each, one that was trained while others' were on."""
        count = len(self.parts)
        for at in range(count):
            name = f"{PART}{at}-among"
            if not (self.folder / name / "card.json").exists():
                others = [f"{PART}{(at + 1 + n) % count}" for n in range(min(DISTRACTORS, count - 1))]
                self._train(at, name, others, f"{told}, among distractors")
                self.base.unplug(name)
        for at in range(count):
            self.base.unplug(f"{PART}{at}")
            self.base.plug(self.folder / f"{PART}{at}-among", name=f"{PART}{at}")

    def _train(self, at: int, name: str, others: Sequence[str], told: str) -> None:
        self.tell(f"{told}: part {at} of {len(self.parts)}, {self.budget:,} tokens")
        chosen = self.settings
        self.base.new(name, self.kind, seed=chosen.seeds[0])
        share: dict[str, Any] = {} if self.replay is None else {"replay_share": chosen.replay_share}
        train(
            self.base, name, corpus=self.parts[at], replay=self.replay, tokens=self.budget, lr=self.rate, seed=chosen.seeds[0],
            out=self.folder / name, resume=True, alongside=others, length=chosen.length, batch_rows=chosen.batch_rows,
            precision=chosen.precision, log=False, **share,
        )  # fmt: skip


def attends(method: Method, base: Base, settings: CompareSettings) -> bool:
    """Whether a method's modules share the attention of the base: then training among distractors is worth trying."""
    return (
        method.kind is not None
        and method.kind(base, Size(settings.extra, settings.count, settings.rank)).seam is Seam.ATTENTION
    )


def _measured(
    base: Base, method: str, distractors: bool, names: Sequence[str], parts: Sequence[Texts], settings: CompareSettings
) -> Composed:
    tokens = max(settings.length, settings.held_tokens // 4)

    def loss(on: Sequence[str], at: int) -> float:
        with base.using(dict.fromkeys(on, 1.0)):
            return score(base, parts[at], length=settings.length, tokens=tokens, precision=settings.precision).nats

    every = range(len(parts))
    bare, own = [loss((), at) for at in every], [loss([names[at]], at) for at in every]
    gains = [b - o for b, o in zip(bare, own, strict=True)]
    kept: dict[int, Interval] = {}
    for count in (n for n in COUNTS if n <= len(parts)):
        together = own[:1] if count == 1 else [loss(names[:count], at) for at in range(count)]
        kept[count] = _share([bare[at] - nats for at, nats in enumerate(together)], gains[:count])
    pairs = tuple(tuple(0.0 if i == j else loss([names[i], names[j]], i) - own[i] for j in every) for i in every)
    return Composed(method, distractors, tuple(gains), kept, pairs)


def _share(together: Sequence[float], alone: Sequence[float]) -> Interval:
    """The gains together over those alone, parts drawn whole; of nothing where alone nothing was gained."""
    if sum(alone) <= 0:
        return Interval(0.0, 0.0, 0.0, 0)
    share = of_ratio(np.array(together), np.array(alone))
    whole = len(alone) >= LEAST and min(alone) > 0
    return share if whole else replace(share, low=share.value, high=share.value)


def _read(record: Path) -> Composed:
    plain = kept_json(record)
    kept = {int(count): Interval(**interval) for count, interval in plain["kept"].items()}
    return Composed(
        plain["method"], plain["distractors"], tuple(plain["alone"]), kept, tuple(map(tuple, plain["pairs"]))
    )


def mean_interference(composed: Composed) -> float:
    """The mean of what one more module adds to the loss on another's text."""
    matrix = np.array(composed.pairs)
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean()) if len(matrix) > 1 else 0.0
