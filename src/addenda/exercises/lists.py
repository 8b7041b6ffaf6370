"""Lists: what a list holds, and back from an item to its list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.clauses import Clause
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import english, known
from addenda.exercises.parsing import clauses_in, points, topic_of
from addenda.exercises.reading import Sentence, read
from addenda.exercises.wording import made


@dataclass(frozen=True)
class Lists(Mined):
    """What is in a list with a sentence before it, and whether an item is, or what has it."""

    phrasings: int = 3
    items: int = 12

    name: ClassVar[str] = "lists"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each list of short items whose sentence can be asked, and of each that stands under a heading alone."""
        for listing in read(chunk).lists if english(chunk, others) else ():
            items = [item.rstrip(" .;,") for item in listing.items]
            if not 2 <= len(items) <= self.items or any(len(item.split()) > 12 or ". " in item for item in items):
                continue
            lead = re.sub(r",? (?:the following(?: \w+)?|as follows|these(?: \w+)?)$", "", listing.lead)
            if (about := re.match(r"(?:It|They) ", lead)) and listing.before:
                topic = topic_of(Sentence(listing.before, 0), known(chunk, others).middles)
                lead = f"{topic} {lead[about.end() :]}" if topic else lead
            if points(lead):
                continue
            short = [item if item[:2].isupper() or item[:1].isdigit() else _small(item, chunk) for item in items]
            answer = f"{lead or chunk.headings[-1] if chunk.headings else lead}{'' if lead else ':'} {_joined(short)}."
            found = clauses_in(Sentence(f"{lead} x y z.", 0), chunk, others) if len(lead.split()) >= 2 else []
            if len(found) == 1 and found[0].rest.endswith("x y z"):
                yield from self._asked(found[0], short, answer, chunk, draw)
            elif chunk.headings:
                yield from made(_named(lead or chunk.headings[-1]), answer, self.called(), chunk, draw, 2)

    def _asked(self, clause: Clause, items: list[str], answer: str, chunk: Chunk, draw: Random) -> Iterator[Made]:
        rest = clause.rest.removesuffix("x y z").strip()
        plain = not rest or rest.split()[-1] not in words.PREPOSITIONS | words.DETERMINERS
        asked = (
            [clause.ask("What", rest), clause.ask("Which things", rest)]
            if plain
            else [clause.ask(f"{_last(rest)} what", _but(rest))]
        )
        asked.append(f"List what {clause.subject} {clause.verb} {rest}".strip() + ".") if plain else None
        yield from made(asked, answer, self.called(), chunk, draw, self.phrasings)
        if clause.base in (
            "contain",
            "include",
            "hold",
            "cover",
            "need",
            "have",
            "require",
            "carry",
            "bring",
            "provide",
            "offer",
        ):
            item = draw.choice(items)
            whether = replace(clause, negative=False).ask("", item)
            yield from made([whether], f"Yes. {answer}", self.called(), chunk, draw, 1)
            yield from (
                made([f"What {clause.verb} {item}?"], answer, self.called(), chunk, draw, 1)
                if clause.do == "does"
                else ()
            )


def _named(what: str) -> Iterator[str]:
    yield f'What is listed under "{what}"?'
    yield f'Which points are in the list "{what}"?'


def _small(item: str, chunk: Chunk) -> str:
    """An item within a sentence: its capital stays where the chunk has the word with one elsewhere."""
    first = item.split()[0]
    return (
        item
        if re.search(rf"[a-z,] {re.escape(first)}\b", chunk.text) or item[:1].islower()
        else item[:1].lower() + item[1:]
    )


def _joined(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}" if not any("," in item for item in items) else "; ".join(items)


def _last(rest: str) -> str:
    return rest.split()[-1].capitalize()


def _but(rest: str) -> str:
    return " ".join(rest.split()[:-1])
