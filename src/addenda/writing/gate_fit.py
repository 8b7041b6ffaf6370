"""The start of a module's gate: fitted to tell its subject from replay before the module learns anything."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from addenda.core.gate import GateRows
from addenda.progress import tick
from addenda.scoring import opener_of
from addenda.writing.packing import Feed, Row

if TYPE_CHECKING:
    from addenda.plugging import Base
    from addenda.writing.plan import Plan

#: tokens of each stream read at least and at most; in between half of the tokens to train on
LEAST, MOST = 2**13, 2**16


def fit_from_plan(base: Base, plan: Plan, name: str) -> None:
    """Fit a module's gate to its corpus and the replay of a plan, from their beginning."""
    wanted = -(-max(LEAST, min(MOST, plan.steps * plan.tokens_per_step // 2)) // plan.length)
    mixture = plan.mixture(base)
    assert mixture.replay is not None
    feeds = mixture.corpora[name], mixture.replay
    subject, others = (islice(rows_of(feed), wanted) for feed in feeds)
    fit_gate(base, name, subject, others, rows=plan.rows, context=plan.context, seed=plan.seed)


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
) -> None:
    """Fit a module's gate to rows of its subject and rows of other text, on the bare base's activations.

    What the gate reads lies below everything that the module changes, so nothing that is learned later moves it.

    Args:
        base: with the module plugged.
        name: of the module.
        subject: its rows, all of one length.
        others: rows of general text.
        rows: read at a time.
        context: tokens at the beginning of each row that are for a teacher alone.
        seed: of the fit.
    """
    gate = base.modules[name].gate
    assert gate is not None
    site, opener = base.host.site(gate.site), opener_of(base.tokenizer)

    def read() -> Iterator[GateRows]:
        for stream, mine in ((subject, True), (others, False)):
            while some := list(islice(stream, rows)):
                ids, documents = (
                    torch.from_numpy(np.stack([getattr(row, part)[context:] for row in some]).astype(np.int64))
                    for part in ("ids", "documents")
                )
                if opener is not None:  # a text may begin with it or not: the gate meets both at the first positions
                    ids[::2] = torch.cat([torch.full_like(ids[::2, :1], opener), ids[::2, :-1]], 1)
                    documents[::2] = torch.cat([documents[::2, :1], documents[::2, :-1]], 1)
                tick(ids.numel())
                yield GateRows(base.reader.entries([site], ids.to(base.device))[site.key], documents, mine)

    gate.begin()
    gate.fit(read(), seed)


def rows_of(feed: Feed) -> Iterator[Row]:
    """The rows of a feed, on and on."""
    while True:
        yield feed.take()
