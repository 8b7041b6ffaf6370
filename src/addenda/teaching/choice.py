"""The choice of kind, size and length of a run, for this study set, this base and the minutes that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from addenda.core.contracts import Kind
from addenda.core.registry import asked_for, build_kind, written
from addenda.core.site import Seam
from addenda.plug.cost import cost_of
from addenda.plug.scoring import fast_precision
from addenda.teaching.teach_settings import TeachSettings

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: documents of at most so many tokens are read as a whole by what is trained, where the base's window is twice as long
WHOLE = 4096
#: tokens of a study set to train on: LoRAs of bases of up to `LARGE` parameters and of larger ones learn what it says, at least
#: and at most so many times; what reads the documents learns to read (docs/results/answers.md)
PASSES, STUDIED, READING = (4.0, 16.0), 300_000, 80_000
LARGE = 1e9
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


def kind_for(base: Base, settings: TeachSettings, text: int) -> Kind:
    """The kind that was asked for; else what reads documents of `text` tokens as a whole, or a LoRA where they are longer.

    Raises:
        AddendaError: no such kind, or an option of it is wrong.
    """
    if settings.kind is not None:
        return asked_for(Kind, settings.kind)  # type: ignore[type-abstract]
    rank = 16 if base.anatomy.parameters <= LARGE else 32
    if 2 <= text <= min(WHOLE, (base.context or WHOLE) // 2):
        reads = build_kind("OpenBook", {"count": text, "rank": rank})
        if base.refusal(reads.seam) is None:
            return reads
    return build_kind("LoRA", {"rank": rank})


def choose(base: Base, settings: TeachSettings, kind: Kind, studied: int, seconds: float | None) -> Choice:
    """Choose what to train.

    Args:
        base: that is taught; a probe of two seconds tells how fast it trains.
        settings: what was asked for.
        kind: that is trained, as `kind_for` gives it.
        studied: tokens of the study set.
        seconds: that training may take; None: as long as is good.

    Raises:
        AddendaError: this base cannot host the kind.
    """
    precision = settings.precision or fast_precision(base.device)
    pace = cost_of(base, kind, seconds=PROBE, precision=precision).training
    least = STEPS * settings.batch_rows * settings.length
    own = 1.0 - settings.replay_share
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
    return Choice(kind, tokens, tokens * own / studied, pace, studied, precision)
