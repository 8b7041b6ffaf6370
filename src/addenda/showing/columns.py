"""Columns of the demo's table: one set of held-out texts, chats and questions, and what a base or a module does with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda.core.card import Measure
from addenda.core.modes import evaluating
from addenda.measuring.asking import chats, zero_shot
from addenda.measuring.looking.disturbance import disturbance
from addenda.plug.scoring import Difference, Score, score
from addenda.showing.scenes import Scene, Size
from addenda.showing.texts import held_out
from addenda.telling.intervals import Interval

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of each row of the batch whose logits are compared bit for bit
COMPARED = 96


@dataclass(frozen=True)
class Column:
    """The base, a module, or the module switched off: held-out losses, and what differs from the base, pair by pair.

    `kl` is the divergence of its next-token predictions from the base's on general text, in nats per token, `untouched` the share
    of tokens there whose logits are the base's bit for bit, `chats` the answers to general chats, `questions` the zero-shot
    questions of all sets. What was not measured is None.
    """

    label: str
    role: str
    subject: Score
    general: Score
    learned: Difference | None = None
    forgotten: Difference | None = None
    kl: Interval | None = None
    untouched: Interval | None = None
    chats: chats.OnChats | None = None
    questions: zero_shot.OnSet | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain: dict[str, Any] = {"subject": self.subject.as_dict(), "general": self.general.as_dict()}
        for name in ("learned", "forgotten", "kl", "untouched", "chats", "questions"):
            value = getattr(self, name)
            plain[name] = None if value is None else asdict(value)
        return {"label": self.label, **plain}

    def measures(self) -> Iterator[Measure]:
        """What a module's card keeps of it."""
        changes = (("learning", self.learned, self.subject), ("forgetting", self.forgotten, self.general))
        for name, change, text in changes:
            if change is not None:
                yield Measure.over(change.documents, name, change.nats, change.low, change.high, on=text.on)
        named = (("KL from the base", self.kl, "nats per token"), ("tokens left bit-equal", self.untouched, "share"))
        for name, interval, unit in named:
            if interval is not None:
                yield Measure.over(
                    interval.n, name, interval.value, interval.low, interval.high, unit=unit, on=self.general.on
                )

    def equals(self, other: Column) -> bool:
        """Whether every held-out document costs the same, to the last bit."""
        pairs = ((self.subject, other.subject), (self.general, other.general))
        return all(np.array_equal(mine.sums, theirs.sums) for mine, theirs in pairs)


class Measuring:
    """What is held out for a scene, and the columns that a base makes of it: `bare` first, the others are paired with it."""

    def __init__(self, base: Base, scene: Scene, size: Size, seed: int) -> None:
        self.base, self.size = base, size
        (pieces, general), (long, longer) = size.pieces, size.characters
        self.subject = held_out(scene.held_out, long, pieces, seed)
        self.general = held_out(scene.held_out_general, longer, general, seed)
        self.chats = chats.asked_of(chats.GENERAL, size.chats) if size.chats else None
        self.asked = zero_shot.fitting(base, size.questions) if size.questions else []
        self.first: Column | None = None
        self.answers: list[list[int]] = []
        self.right: np.ndarray | None = None

    def bare(self) -> Column:
        """The base with every module off."""
        base = self.base
        with base.off():
            losses = self._losses()
            self.answers = [] if self.chats is None else chats.answers(base, self.chats[1])
            self.right = zero_shot.right(base, self.asked) if self.asked else None
        asked = None if self.right is None else zero_shot.paired(self.asked, self.right).pooled
        self.first = Column("base", "ink", *losses, questions=asked)
        return self.first

    def on(self, label: str, role: str, name: str) -> Column:
        """A module, alone at weight 1."""
        base, size = self.base, self.size
        with base.using({name: 1.0}):
            losses = self._losses()
            answers = [] if self.chats is None else chats.answers(base, self.chats[1])
            right = zero_shot.right(base, self.asked) if self.asked else None
        moved = disturbance(base, {name: 1.0}, self.general, tokens=size.compared, length=self.shortest)
        said = None if self.chats is None else chats.paired(base, *self.chats, self.answers, answers, chats.TOKENS)
        asked = None if self.right is None else zero_shot.paired(self.asked, self.right, right).pooled
        return self._paired(label, role, losses, (moved.kl, moved.untouched, said, asked))

    @property
    def shortest(self) -> int:
        """Tokens of each general piece whose predictions are compared: as many as the shortest has."""
        return min(self.size.length, *(len(self.base.tokenize(record["text"])) for record in self.general))

    def off(self, label: str) -> Column:
        """The base as selected now, with modules plugged."""
        return self._paired(label, "ink", self._losses(), ())

    def _losses(self) -> tuple[Score, Score]:
        subject, general = (score(self.base, text, length=self.size.length) for text in (self.subject, self.general))
        return subject, general

    def _paired(self, label: str, role: str, losses: tuple[Score, Score], more: tuple[Any, ...]) -> Column:
        subject, general = losses
        assert self.first is not None
        return Column(label, role, *losses, self.first.subject.minus(subject), general.minus(self.first.general), *more)

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Logits [4, T, V] of a padded batch of both sorts of text, under the current selection."""
        base = self.base
        texts = [record["text"] for held in (self.subject, self.general) for record in islice(held, 2)]
        rows = [base.tokenize(text)[:COMPARED] for text in texts]
        width = max(map(len, rows))
        ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        device = base.device
        with evaluating(base.model):
            return base.model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
