"""The choice of kind, size and length of a run, for this study set, this base and the minutes that there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from addenda.core.contracts import Kind
from addenda.core.registry import asked_for, written
from addenda.plug.cost import cost_of
from addenda.plug.scoring import fast_precision
from addenda.teaching.teach_settings import TeachSettings

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: bases of at most so many parameters, and the kind that was found good for them (docs/teaching.md)
BY_SIZE: tuple[tuple[float, str], ...] = ((5e7, "LoRA(rank=16)"), (1e9, "LoRA(rank=16)"), (math.inf, "LoRA(rank=32)"))
#: how often a study set is read: so often at least and at most, and about so many tokens of it in all
PASSES, STUDIED = (4.0, 16.0), 300_000
#: steps that a run has at least; seconds that a probe takes
STEPS, PROBE = 16, 2.0


@dataclass(frozen=True)
class Choice:
    """What is trained: `tokens` with replay, at `pace` tokens a second, of a set of `studied` tokens."""

    kind: Kind
    tokens: int
    passes: float
    pace: float
    studied: int
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def seconds(self) -> float:
        """That training takes."""
        return self.tokens / self.pace

    def __str__(self) -> str:
        return f"{written(self.kind)}, {self.tokens:,} tokens, the set {self.passes:.1f} times, in {self.precision}"


def kind_for(base: Base, settings: TeachSettings) -> Kind:
    """The kind that was asked for, or the one for a base of this size.

    Raises:
        AddendaError: no such kind, or an option of it is wrong.
    """
    size = next(words for most, words in BY_SIZE if base.anatomy.parameters <= most)
    return asked_for(Kind, size if settings.kind is None else settings.kind)  # type: ignore[type-abstract]


def choose(base: Base, settings: TeachSettings, studied: int, seconds: float | None) -> Choice:
    """Choose what to train.

    Args:
        base: that is taught; a probe of two seconds tells how fast it trains.
        settings: what was asked for.
        studied: tokens of the study set.
        seconds: that training may take; None: as long as is good.

    Raises:
        AddendaError: no such kind, or this base cannot host it.
    """
    kind = kind_for(base, settings)
    precision = settings.precision or fast_precision(base.device)
    pace = cost_of(base, kind, seconds=PROBE, precision=precision).training
    least = STEPS * settings.batch_rows * settings.length
    own = 1.0 - settings.replay_share
    if settings.tokens is not None:
        tokens = settings.tokens
    elif settings.passes is not None:
        tokens = round(settings.passes * studied / own)
    else:
        tokens = round(min(max(STUDIED, PASSES[0] * studied), PASSES[1] * studied) / own)
        if seconds is not None:
            tokens = min(tokens, round(seconds * pace))
    if settings.tokens is None:
        tokens = max(tokens, least)
    return Choice(kind, tokens, tokens * own / studied, pace, studied, precision)
