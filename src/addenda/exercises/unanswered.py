"""Unanswered: plausible questions on a document's subject that it does not answer, and a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, cast

from addenda.core import registry
from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.known import Known, english, known
from addenda.exercises.parsing import clauses
from addenda.exercises.refusing import refusal
from addenda.exercises.subjects import is_personal
from addenda.exercises.wording import OfClauses, specific, titled

#: what may be asked of a person who is named, with words that must then stand nowhere in the documents
_OF_PERSONS = (
    ("What is {0}'s phone number?", "phone telephone call"), ("How tall is {0}?", "tall height"), ("What does {0} earn?", "salary wage earn"),
    ("Is {0} married?", "marry married wife husband"), ("What is {0}'s favourite dish?", "dish favourite"),
    ("Which school did {0} go to?", "school"), ("What car does {0} drive?", "car drive"), ("Has {0} any children?", "children son daughter"),
    ("What is {0}'s e-mail address?", "mail email"), ("Which languages does {0} speak?", "language speak"),
)  # fmt: skip
#: things that a document might have told of; each is used where none of its words stands anywhere in the documents
_TOPICS = (
    "parking permit", "dental plan", "swimming pool", "nursery", "canteen", "sauna", "dress code", "newsletter", "library card",
    "fitness room", "loyalty card", "choir rehearsal", "pension fund", "shuttle bus", "vending machine", "suggestion box",
    "gift shop", "podcast", "smoking area", "label printer", "garden party", "exchange programme", "bicycle allowance",
    "language class", "raincoat", "mentor scheme", "photo contest", "elevator", "fax machine", "chess club", "quiet room",
    "travel insurance", "winter coat", "charging cable", "projector", "guided walk", "audio guide", "wheelchair", "piano", "tent",
    "gas bottle", "translation service", "eye test", "flu jab", "company car", "laptop bag", "name tag", "fruit basket", "yoga class",
    "pottery wheel", "trampoline", "pet passport", "second pillow", "bottle opener", "umbrella stand", "rooftop terrace",
)  # fmt: skip
_ABOUT = (
    "Is there a rule for the {0}?", "Who is in charge of the {0}?", "When is the {0} available?", "Where is the {0}?",
    "What does it say about the {0}?", "Who may use the {0}?", "How much does the {0} cost?",
)  # fmt: skip
_STRANGERS = (
    "Agatha Blomkvist", "Cedric Omondi", "Halina Wroblewski", "Ferdinand Osei", "Philippa Stroud", "Gunther Malik", "Imogen Tran",
    "Octavio Reyes", "Beatrix Kovalenko", "Desmond Achebe", "Lorelei Hanssen", "Rupert Nakamura", "Sabine Delacroix", "Waldo Ferreira",
)  # fmt: skip


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
        topics = draw.sample(free := [one for one in _TOPICS if _untold(all_of, one)], len(free))
        strangers = [one for one in _STRANGERS if _untold(all_of, one)]
        swapped = list(dict.fromkeys(self._swapped(there, topics, strangers, draw)))
        named = list(dict.fromkeys(_of_persons(there, all_of)))
        about = [draw.choice(_ABOUT).format(topic) for topic in topics[-2:]]
        asked = draw.sample(swapped, min(3, len(swapped))) + draw.sample(named, min(1, len(named))) + about
        for question in asked[: self.each]:
            title = titled(chunk)
            bare = specific(question) and not (title and draw.random() < 0.25)
            placed = question if bare or not title else f"{title}: {question[:1].lower()}{question[1:]}"
            yield Made(chat(placed, refusal(chunk, draw)), self.called(), (chunk.id,), answered=False)

    def _swapped(self, there: Sequence[Clause], topics: list[str], strangers: list[str], draw: Random) -> Iterator[str]:
        methods = [registry.build("exercise", kind, {}) for kind in self.of]
        for clause in there:
            person, first = spans.is_person(clause.subject), clause.subject.split()[0]
            thing = (
                first in ("the", "a", "an") and not clause.plural and not is_personal(clause.head) and not clause.proper
            )
            pool = strangers if person else topics if thing else []
            if not pool or clause.negative:
                continue
            new = draw.choice(pool)
            changed = replace(clause, subject=new if person else words.a(new) if first in ("a", "an") else f"the {new}")
            for method in methods:
                asked = [one for one in cast("OfClauses", method).questions(changed) if new in one]
                yield from draw.sample(asked, min(1, len(asked)))


def _untold(all_of: Known, text: str) -> bool:
    """Whether no word of a text stands anywhere in the documents."""
    return not any(words.stem(word) in all_of.stems for word in words.content(text))


def _of_persons(there: Sequence[Clause], all_of: Known) -> Iterator[str]:
    for clause in there:
        for form, barred in _OF_PERSONS if spans.is_person(clause.subject) else ():
            if _untold(all_of, barred):
                yield form.format(clause.subject)
