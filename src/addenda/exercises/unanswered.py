"""Unanswered: plausible questions on a document's subject that it does not answer, and a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, cast

from addenda.core import registry
from addenda.exercises import spans, untold, words
from addenda.exercises.clauses import Clause
from addenda.exercises.everyday import LEADS
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.known import english, known
from addenda.exercises.near_misses import near_misses
from addenda.exercises.parsing import clauses
from addenda.exercises.reading import read
from addenda.exercises.refusing import refusal
from addenda.exercises.subjects import is_personal
from addenda.exercises.untold_here import share
from addenda.exercises.wording import OfClauses, specific, titled

#: which of them stands for the subject of which kind's questions
_FITTING = {
    "costs": untold.THINGS + untold.EVENTS,
    "places": untold.GOODS,
    "times": untold.GATHERINGS,
    "opening": untold.FACILITIES,
    "persons": (),
    "amounts": (),
}
#: verbs that anything may do at a time
_TIMED = "is was opensopen closesclose beginsbegin startsstart endsend takestake must".split()


@dataclass(frozen=True)
class Unanswered(Mined):
    """Questions that the documents do not answer, with a refusal: words that would tell of it stand nowhere in the documents.

    They are such as anybody asks; of things and persons that the documents tell of, on something else; of things that they do not
    know; and questions of other kinds with such a thing, or another name, in them. A chunk gets `each` of them at most, and two
    for each of its sentences: some seven in a hundred exercises. No question is asked twice.
    """

    each: int = 7
    of: tuple[str, ...] = ("costs", "amounts", "times", "places", "persons")

    name: ClassVar[str] = "unanswered"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each chunk so many, drawn by turns from what can be asked of it in vain."""
        all_of = known(chunk, others)
        if not english(chunk, others) or not chunk.headings:
            return
        rules = all_of.rules(chunk)
        topics, strangers = share(all_of, chunk, "topics") if rules else [], share(all_of, chunk, "strangers")
        swapped = _mixed(self._swapped(clauses(chunk, others), topics, strangers, draw), draw)
        near = _mixed(near_misses(chunk, others, all_of), draw)
        if rules:
            asked = _mixed(share(all_of, chunk, "asked"), draw)
            turns = (asked, near, swapped, asked, _mixed(share(all_of, chunk, "about"), draw), near)
        else:
            turns = (near, swapped, _mixed(share(all_of, chunk, "described"), draw))
        count = min(self.each, 2 * len(read(chunk).sentences))
        for question in list(dict.fromkeys(_by_turns(turns)))[:count]:
            answer = refusal(chunk, draw)
            yield Made(chat(_placed(question, chunk, draw), answer), self.called(), (chunk.id,), answered=False)

    def _swapped(self, there: Sequence[Clause], topics: list[str], strangers: list[str], draw: Random) -> Iterator[str]:
        methods = [cast("OfClauses", registry.build("exercise", kind, {})) for kind in self.of]
        for clause in there:
            person, first = spans.is_person(clause.subject), clause.subject.split()[0]
            thing = (
                first in ("the", "a", "an") and not clause.plural and not is_personal(clause.head) and not clause.proper
            )
            if clause.negative or not (person or thing) or len(clause.rest.split()) > (12 if person else 6):
                continue
            for method in methods:
                pool = strangers if person else [one for one in topics if one in _fitting(method.called(), clause)]
                if not pool or (method.called() == "times" and clause.verb + clause.base not in _TIMED):
                    continue
                new = draw.choice(pool)
                changed = replace(
                    clause, subject=new if person else words.a(new) if first in ("a", "an") else f"the {new}"
                )
                asked = [one for one in method.questions(changed) if new in one]
                yield from draw.sample(asked, min(1, len(asked)))


def _fitting(kind: str, clause: Clause) -> tuple[str, ...]:
    """What may stand for a clause's subject in a kind's questions: a sauna opens, and a fair takes place."""
    opens = kind == "times" and re.search(r"\b(?:open|clos)", f"{clause.verb} {clause.base} {clause.rest}")
    return _FITTING.get("opening" if opens else kind, ())


def _mixed(questions: Iterable[str], draw: Random) -> Iterator[str]:
    there = list(dict.fromkeys(questions))
    return iter(draw.sample(there, len(there)))


def _by_turns(pools: Sequence[Iterator[str]]) -> Iterator[str]:
    """One of each, until none has any left."""
    there = True
    while there:
        there = False
        for pool in pools:
            for question in (one for _, one in zip(range(1), pool, strict=False)):
                there = True
                yield question


def _placed(question: str, chunk: Chunk, draw: Random) -> str:
    """A question, now and then with its document's title or something said before it; one that names little has the title."""
    title = titled(chunk)
    low = question if re.match(r"I\b|[A-Z][A-Z0-9]", question) else question[:1].lower() + question[1:]
    if title and not (specific(question) and draw.random() > 0.25):
        forms = [f"{title}: {low}", f"{title}: {low}", f'In "{title}": {low}']
        return draw.choice(
            [*forms, f'According to "{title}", {low}'] if "?" in question and ". " not in question else forms
        )
    if draw.random() > 0.1 or ". " in question:
        return question
    lead = draw.choice(LEADS)
    return f"{lead} {low if lead.endswith(':') else question}"
