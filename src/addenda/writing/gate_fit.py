"""The start of a module's gate: fitted to tell its subject from replay before the module learns anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from addenda.core.gate import GateRows, apart, starts_of
from addenda.plug.scoring import cast, opener_of
from addenda.plug.turns import begun, turn_mark
from addenda.telling.progress import tick
from addenda.writing.isolation import Way, inputs, way_of
from addenda.writing.packing import Row
from addenda.writing.plan import make_plan
from addenda.writing.settings import settings_from

if TYPE_CHECKING:
    from addenda.core.site import Site
    from addenda.plug.base import Base
    from addenda.writing.plan import Plan

#: tokens of a turn, at least and at most, where both sides are read in one text
TURN = (16, 128)
#: tokens of each stream read at least and at most; in between half of the tokens to train on
LEAST, MOST = 2**13, 2**16


class Part(NamedTuple):
    """Some rows of one side: token ids [R, T] and document numbers [R, T]."""

    ids: Tensor
    documents: Tensor

    def at(self, rows: Tensor) -> Part:
        """Some of the rows [R]."""
        return Part(self.ids[rows], self.documents[rows])


def awaits_fit(base: Base, plan: Plan, name: str) -> bool:
    """Whether a module's gate begins with the run: it was never trained, and there is replay to tell the subject from."""
    gate = base.modules[name].gate
    if gate is None or plan.replay is None or not gate.fresh:
        return False
    return plan.settings.gate_weight > 0 or not gate.taught


def tokens_to_fit(plan: Plan) -> int:
    """Tokens that are read to fit a gate, both streams together, where they have as many."""
    return 2 * _rows_of_each(plan) * plan.length


def _rows_of_each(plan: Plan) -> int:
    return -(-max(LEAST, min(MOST, plan.steps * plan.tokens_per_step // 2)) // plan.length)


def fit_from_plan(base: Base, plan: Plan, name: str) -> None:
    """Fit a module's gate to its corpus and the replay of a plan, from their beginning."""
    wanted = _rows_of_each(plan)
    mixture = plan.mixture(base)
    assert mixture.replay is not None
    feeds = mixture.corpora[name], mixture.replay
    subject, others = (islice(feed.stream.rows(0), wanted) for feed in feeds)  # each token once: folds must differ
    fit_gate(
        base, name, subject, others, rows=plan.rows, context=plan.context, seed=plan.seed, precision=plan.settings.precision,
        isolate=plan.settings.isolate,
    )  # fmt: skip


def fit_on(
    base: Base, name: str, *, corpus: Any, replay: Any, tokens: int, seed: int = 0, **settings: Any
) -> None:  # fmt: skip
    """Fit a module's gate to tell a corpus from replay, and leave everything else of it as it is; arguments are those of `train`.

    Raises:
        AddendaError: as `train`.
    """
    chosen = settings_from(settings)
    plan = make_plan(
        base, name, corpus=corpus, replay=replay, replay_share=0.5, tokens=tokens, lr=None, seed=seed, alongside=(),
        settings=chosen,
    )  # fmt: skip
    fit_from_plan(base, plan, name)


@torch.no_grad()
def fit_gate(
    base: Base,
    name: str,
    subject: Iterator[Row],
    others: Iterator[Row],
    *,
    rows: int,
    context: int = 0,
    seed: int = 0,
    precision: str = "fp32",
    isolate: bool = False,
) -> None:
    """Fit a module's gate to rows of its subject and rows of other text, on the bare base's activations.

    What the gate reads lies below everything that the module changes, so nothing that is learned later moves it. No
    token should come twice: the threshold is set on documents, or stretches, that a fit has not seen. Where the gate
    wants turns, half of the rows have both sides by turns in one text: after a change of subject attention
    still mixes in what was before, and a document gate that never met that took three to ten times as long to open.

    Args:
        base: with the module plugged.
        name: of the module.
        subject: its rows, all of one length.
        others: rows of general text.
        rows: read at a time.
        context: tokens at the beginning of each row that are for a teacher alone.
        seed: of the fit.
        precision: that is read in, `fp32` or `bf16`.
        isolate: documents of a row do not see one another, as questions of different people do not: none then follows another
            in one text. A gate that judges by turn is then fitted to conversations of two turns too, each of either side.
    """
    gate = base.modules[name].gate
    assert gate is not None
    way = way_of(base) if isolate else None
    reader = _Reader(base, base.host.site(gate.site), precision, torch.Generator().manual_seed(seed), way)
    if gate.by_turn:
        reader.mark = turn_mark(base.tokenizer)
    turns = gate.turns and not isolate
    gate.begin()
    gate.fit(reader.rows(_parts(subject, rows, context), _parts(others, rows, context), turns=turns), seed)


class _Reader:
    """Reads rows of both sides with the bare base, up to the site of a gate."""

    def __init__(
        self, base: Base, site: Site, precision: str, random: torch.Generator, isolate: Way | None = None
    ) -> None:
        self.base, self.site, self.precision, self.random = base, site, precision, random
        self.isolate: Way | None = isolate
        self.opener = None if isolate else opener_of(base.tokenizer)
        #: the ids with which the user begins to speak, where that is a beginning for the gate; conversations made so far
        self.mark: tuple[int, ...] = ()
        self.talks = 0
        #: rows read of both sides, and of each side alone
        self.read, self.opened = 0, {True: 0, False: 0}

    def rows(self, subject: Iterator[Part], others: Iterator[Part], *, turns: bool) -> Iterator[GateRows]:
        """All rows, every other one by turns with one of the other side, where the gate wants that."""
        talks = bool(self.mark) and self.isolate is not None
        for mine, theirs in zip_longest(subject, others):
            if (turns or talks) and mine and theirs and mine.ids.shape == theirs.ids.shape:
                odd = (torch.arange(len(mine.ids)) + self.read) % 2 == 1
                yield from (self.in_talks if talks else self.by_turns)(mine.at(odd), theirs.at(odd))
                mine, theirs = mine.at(~odd), theirs.at(~odd)
                self.read += len(odd)
            yield from (self.alone(part, part is mine) for part in (mine, theirs) if part and len(part.ids))

    def alone(self, part: Part, subject: bool) -> GateRows:
        """Rows as they are; a text may begin with the opener or not, so every other one of a side does."""
        ids, documents = (both.clone() for both in part)
        if self.opener is not None:
            opened = (torch.arange(len(ids)) + self.opened[subject]) % 2 == 0
            self.opened[subject] += len(ids)
            ids[opened] = torch.cat([torch.full_like(ids[:, :1], self.opener), ids[:, :-1]], 1)[opened]
            documents[opened] = torch.cat([documents[:, :1], documents[:, :-1]], 1)[opened]
        return GateRows(self.inputs(ids, documents), documents, subject, self.starts(ids, documents))

    def by_turns(self, mine: Part, theirs: Part) -> Iterator[GateRows]:
        """Both sides in one text: what follows a change of subject still has the other side in its context."""
        if not len(mine.ids):
            return
        turn = turns_of(mine.ids.shape, self.random)
        first = self.inputs(torch.where(turn, mine.ids, theirs.ids))
        second = self.inputs(torch.where(turn, theirs.ids, mine.ids))
        changed, here = starts_of(turn), turn[..., None].to(first.device)
        yield GateRows(torch.where(here, first, second), mine.documents, True, changed | starts_of(mine.documents))
        yield GateRows(torch.where(here, second, first), theirs.documents, False, changed | starts_of(theirs.documents))

    def in_talks(self, mine: Part, theirs: Part) -> Iterator[GateRows]:
        """Conversations of two turns, each of either side; each turn is of its own side."""
        spoken = [
            (document, subject)
            for part, subject in ((mine, True), (theirs, False))
            for document in _spoken(part, self.mark)
        ]
        order: list[int] = torch.randperm(len(spoken), generator=self.random).tolist()
        for first, then in zip(order[::2], order[1::2], strict=False):
            (one, whose), (other, then_whose) = spoken[first], spoken[then]
            other = other[int(begun(other[None], self.mark)[0][0].nonzero()[0]) - len(self.mark) + 1 :]
            ids = torch.cat([one, other])[None]
            self.talks += 1
            documents = torch.full_like(ids, -self.talks)
            x, starts = self.inputs(ids), self.starts(ids, documents)
            for part, subject in ((slice(0, len(one)), whose), (slice(len(one), None), then_whose)):
                yield GateRows(x[:, part], documents[:, part], subject, starts[:, part])

    def starts(self, ids: Tensor, documents: Tensor) -> Tensor:
        """Where the gate begins anew [R, T]: with a document, and where the user begins to speak if that counts."""
        starts = starts_of(documents)
        return starts | begun(ids, self.mark)[0] if self.mark else starts

    def inputs(self, ids: Tensor, documents: Tensor | None = None) -> Tensor:
        """What enters the gate's site [R, T, D] for token ids [R, T]; apart for `documents` [R, T], where they are isolated."""
        tick(ids.numel())
        device, extra = self.base.device, {}
        if self.isolate is not None and documents is not None:
            extra = inputs(self.isolate, documents.to(device), self.base.host.dtype())
        with cast(device, self.precision):
            return self.base.reader.entries([self.site], ids.to(device), **extra)[self.site.key]


def _spoken(part: Part, mark: tuple[int, ...]) -> Iterator[Tensor]:
    """The documents of a part, token ids [n] each, in which the user speaks."""
    for ids, documents in zip(*part, strict=True):
        for document in apart(ids, documents):
            if bool(begun(document[None], mark)[0].any()):
                yield document


def _parts(stream: Iterator[Row], rows: int, context: int) -> Iterator[Part]:
    """So many rows at a time, without what is for a teacher alone."""
    while some := list(islice(stream, rows)):
        yield Part(
            *(
                torch.from_numpy(np.stack([getattr(row, name)[context:] for row in some]).astype(np.int64))
                for name in Part._fields
            )
        )


def turns_of(shape: torch.Size, random: torch.Generator) -> Tensor:
    """Whose turn it is [R, T] in rows of two sides by turns, each of TURN tokens, short turns as often as long ones."""
    low, high = (math.log(tokens) for tokens in TURN)
    most = -(-shape[1] // TURN[0])
    tokens = torch.empty(shape[0], most).uniform_(low, high, generator=random).exp().long()
    ends = tokens.cumsum(1)
    turn = torch.searchsorted(ends, torch.arange(shape[1]).expand(shape).contiguous(), right=True)
    return (turn + torch.arange(shape[0])[:, None]) % 2 == 0
