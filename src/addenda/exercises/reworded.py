"""Reworded: mined questions in other everyday words, put another way, or with something said before them; English."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.asking import mined_by
from addenda.exercises.everyday import LEADS, others, put_otherwise
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.known import english
from addenda.exercises.wording import ASKING, placed


@dataclass(frozen=True)
class Reworded(Mined):
    """Further wordings of the questions that other kinds ask, by rules: people do not ask in a document's words."""

    each: int = 3
    of: tuple[str, ...] = (
        "costs", "amounts", "times", "places", "persons", "duties", "conditions", "numbered", "turned", "reasons", "tables",
    )  # fmt: skip

    name: ClassVar[str] = "reworded"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """So many wordings of each question that stands without its heading."""
        if not english(chunk, others):
            return
        asked = {one.question: one for one in mined_by(self.of, chunk, others, draw) if _bare(one.question)}
        for question, one in asked.items():
            ways = {way for _ in range(4 * self.each) if (way := _reworded(question, draw))}
            kept = [way for way in sorted(ways) if _named(question) & _named(way)]
            for way in draw.sample(kept, min(self.each, len(kept))):
                said = _led(placed(way, chunk, draw), draw)
                if said and one.answer.rstrip(".").lower() not in said.lower():
                    yield Made(chat(said, one.answer), self.called(), one.chunks, one.answered)


def _bare(question: str) -> bool:
    return not question.startswith(("According to", 'In "', 'Under "', 'About "')) and ": " not in question


def _named(question: str) -> set[str]:
    """The words, without their endings, that say what a question is about."""
    return {words.stem(word) for word in words.content(question) if word not in ASKING}


def _reworded(question: str, draw: Random) -> str | None:
    """A question put another way, or with some of its words changed; None where neither is possible."""
    ways = put_otherwise(question)
    text = draw.choice(ways) if ways and draw.random() < 0.6 else question
    changed = text
    for start, end, there in reversed(others(text)):
        if draw.random() < 0.6:
            changed = f"{changed[:start]}{draw.choice(there)}{changed[end:]}"
    return changed if changed != question else None


def _led(question: str | None, draw: Random) -> str | None:
    """A question with something said before it, now and then."""
    if question is None or draw.random() < 0.8:
        return question
    lead = draw.choice(LEADS)
    return f"{lead} {question[:1].lower() + question[1:] if lead.endswith(':') and question[:2] != 'I ' else question}"
