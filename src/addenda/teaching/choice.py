"""The choice of kind, size and length of a run, for this study set, this base and the minutes that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from addenda.core.contracts import Kind
from addenda.core.registry import asked_for, build_kind, written
from addenda.core.site import Seam
from addenda.plug.cost import cost_of
from addenda.plug.scoring import fast_precision
from addenda.teaching.teach_settings import TeachSettings

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: documents of at most so many tokens are read by what is trained, where the base's window is twice as long as a page
WHOLE = 4096
#: tokens of a study set to train on: LoRAs of bases of up to `LARGE` parameters and of larger ones learn what it says, at least
#: and at most so many times; what reads the documents learns to read (docs/results/answers.md)
PASSES, STUDIED, READING = (4.0, 16.0), 300_000, 80_000
LARGE = 1e9
#: a gate alone is fitted to so many times the tokens of the set, general text counted
FITTED = 2
#: steps that a run has at least; seconds that a probe takes
STEPS, PROBE = 16, 2.0


@dataclass(frozen=True)
class Choice:
    """What is trained: `tokens` with replay, at `pace` tokens a second, of a set of `studied` tokens; `own` is the set's share.

    With no tokens nothing is trained: the module reads, and its gate alone is fitted to the set.
    """

    kind: Kind
    tokens: int
    pace: float
    studied: int
    own: float
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def seconds(self) -> float:
        """That training takes, or the fit of a gate alone."""
        return (self.tokens or FITTED * self.studied) / self.pace

    def times(self, tokens: int) -> float:
        """How often so many tokens read the set."""
        return tokens * self.own / self.studied

    def __str__(self) -> str:
        if not self.tokens:
            return f"{written(self.kind)}, which reads the documents, and is not trained on them"
        return f"{written(self.kind)}, {self.tokens:,} tokens, the set {self.times(self.tokens):.1f} times, in {self.precision}"


def kind_for(base: Base, settings: TeachSettings, text: Tensor) -> Kind:
    """The kind that was asked for; else what reads documents that are laid out in pages [T, 3], or a LoRA where they are longer.

    Raises:
        AddendaError: no such kind, or an option of it is wrong.
    """
    if settings.kind is not None:
        return asked_for(Kind, settings.kind)  # type: ignore[type-abstract]
    rank = 16 if base.anatomy.parameters <= LARGE else 32
    longest = int(torch.bincount(text[:, 2]).max())
    if 2 <= len(text) <= WHOLE and longest <= (base.context or WHOLE) // 2:
        pages, lines = (int(text[:, column].max()) + 1 for column in (2, 1))
        reads = build_kind("OpenBook", {"count": len(text), "rank": rank, "pages": pages, "lines": lines})
        if base.refusal(reads.seam) is None:
            return reads
    return build_kind("LoRA", {"rank": rank})


def choose(
    base: Base, settings: TeachSettings, kind: Kind, studied: int, seconds: float | None, reads: bool = False
) -> Choice:
    """Choose what to train.

    Args:
        base: that is taught; a probe of two seconds tells how fast it trains.
        settings: what was asked for.
        kind: that is trained, as `kind_for` gives it.
        studied: tokens of the study set.
        seconds: that training may take; None: as long as is good.
        reads: whether the module begins from what has learned to read. It is then not trained, unless tokens or passes are asked
            for (docs/results/reading.md).

    Raises:
        AddendaError: this base cannot host the kind.
    """
    precision = settings.precision or fast_precision(base.device)
    own = 1.0 - settings.replay_share
    if reads and kind.takes_pages and settings.tokens is None and settings.passes is None:
        return Choice(kind, 0, cost_of(base, kind, seconds=PROBE, precision=precision).reading, studied, own, precision)
    pace = cost_of(base, kind, seconds=PROBE, precision=precision).training
    least = STEPS * settings.batch_rows * settings.length
    if settings.tokens is not None:
        tokens = settings.tokens
    elif settings.passes is not None:
        tokens = round(settings.passes * studied / own)
    else:
        learns = min(max(STUDIED, PASSES[0] * studied), PASSES[1] * studied)
        reads = kind.starts_from_text and kind.seam is Seam.ATTENTION
        tokens = round((READING if reads else learns) / own)
        if seconds is not None:
            tokens = min(tokens, round(seconds * pace))
    if settings.tokens is None:
        tokens = max(tokens, least)
    return Choice(kind, tokens, pace, studied, own, precision)
