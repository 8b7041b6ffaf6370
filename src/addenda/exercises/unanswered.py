"""Unanswered: plausible questions on a document's subject that it does not answer, and a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, cast

from addenda.core import registry
from addenda.exercises import spans, untold, words
from addenda.exercises.clauses import Clause
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.known import Known, english, known
from addenda.exercises.parsing import clauses
from addenda.exercises.refusing import refusal
from addenda.exercises.subjects import is_personal
from addenda.exercises.wording import OfClauses, specific, titled

#: which of them stands for the subject of which kind's questions
_FITTING = {
    "costs": untold.THINGS + untold.EVENTS,
    "places": untold.THINGS,
    "times": untold.EVENTS,
    "persons": (),
    "amounts": (),
}
#: verbs that anything may do at a time
_TIMED = "is was opensopen closesclose beginsbegin startsstart endsend takestake must".split()


@dataclass(frozen=True)
class Unanswered(Mined):
    """Questions that the documents do not answer, with a refusal: a word or a name in them stands nowhere in the documents.

    Half are questions that other kinds ask of the documents, of a thing or a person that the documents do not know.
    """

    each: int = 5
    of: tuple[str, ...] = ("costs", "amounts", "times", "places", "persons")

    name: ClassVar[str] = "unanswered"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each chunk so many, drawn by turns from what can be asked of it in vain."""
        if not english(chunk, others) or not chunk.headings:
            return
        all_of, there = known(chunk, others), clauses(chunk, others)
        topics = draw.sample(free := [one for one in untold.THINGS + untold.EVENTS if not all_of.told(one)], len(free))
        strangers = [one for one in untold.STRANGERS if not all_of.told(one)]
        named = list(dict.fromkeys(_of_persons(there, all_of)))
        about = [draw.choice(untold.ABOUT).format(topic) for topic in topics[-2:]]
        if not all_of.rules(chunk):
            free = [
                one
                for one in untold.DESCRIBED
                if not all_of.told(" ".join(re.findall(r"(?<!^)\b[A-Z]\w+|\w{6,}", one)))
            ]
            about, topics = draw.sample(free, min(1, len(free))), []
        swapped = list(dict.fromkeys(self._swapped(there, topics, strangers, draw)))
        asked = draw.sample(swapped, min(3, len(swapped))) + draw.sample(named, min(1, len(named))) + about
        for question in asked[: self.each]:
            title = titled(chunk)
            bare = specific(question) and not (title and draw.random() < 0.25)
            placed = question if bare or not title else f"{title}: {question[:1].lower()}{question[1:]}"
            yield Made(chat(placed, refusal(chunk, draw)), self.called(), (chunk.id,), answered=False)

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
                pool = strangers if person else [one for one in topics if one in _FITTING.get(method.called(), ())]
                if not pool or (method.called() == "times" and clause.verb + clause.base not in _TIMED):
                    continue
                new = draw.choice(pool)
                changed = replace(
                    clause, subject=new if person else words.a(new) if first in ("a", "an") else f"the {new}"
                )
                asked = [one for one in method.questions(changed) if new in one]
                yield from draw.sample(asked, min(1, len(asked)))


def _of_persons(there: Sequence[Clause], all_of: Known) -> Iterator[str]:
    for clause in there:
        for form, barred in untold.OF_PERSONS if spans.is_person(clause.subject) else ():
            if not all_of.told(barred):
                yield form.format(clause.subject)
