"""Chats: how many answers are not the bare base's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from addenda.core import card
from addenda.measuring.asking.chats import EARLY, TOKENS, OnChats, asked_of, on_chats
from addenda.measuring.conducting.foretold import CHARACTERS, COMPARED
from addenda.measuring.conducting.lines import on_card, share
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option

#: tokens that a chat template adds to what is said; changed answers that are shown
TURN, SHOWN = 20, 3


@dataclass(frozen=True)
class Chats(Measure):
    """How many answers to chats are not the bare base's."""

    name: ClassVar[str] = "chats"
    place: ClassVar[int] = 70
    of_modules: ClassVar[bool] = True
    in_words: ClassVar[bool] = True

    chats: Any = option("How many answers to chats change: general, those that come along, or a file of messages.")
    limit: int | None = limit()

    def open(self, acting: Acting) -> Opened:
        return Opened(asked_of(self.chats, self.limit))

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        name, asked = opened.inputs
        said = sum(len(message["content"]) for messages in asked for message in messages) // CHARACTERS
        yield Reading(name, 2 * (said + (TURN + TOKENS) * len(asked)), COMPARED)

    def run(self, acting: Acting, opened: Opened) -> OnChats:
        return on_chats(acting.base, acting.weights, *opened.inputs)

    def record(self, found: OnChats, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        yield from on_card("answers changed", found.changed, found.on)
        yield from on_card("answers changed early", found.early, found.on)

    def rows(self, found: OnChats, base: str, label: str) -> Iterator[Table]:
        title = f"Answers to {found.on} that are not the same as the bare base's [95% interval over chats]"
        rows = [
            (f"of {found.changed.n:,} chats, {found.tokens} tokens each", share(found.changed)),
            (f"within the first {EARLY} tokens", share(found.early)),
        ]
        yield Table(title, ["", ""], rows)
        changed = [(one.said, one.off, one.on) for one in found.answers if one.parts_at is not None]
        if changed:
            yield Table("Some of them", ["asked", "base", label], changed[:SHOWN], prose=True)
