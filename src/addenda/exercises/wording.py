"""Questions in words: several wordings of one fact, each of which names what it is about."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.parsing import clauses

#: what questions are made with, and does not say what they are about
ASKING = frozenset(
    "how much many what which who when where why long often high cost costs price pay paid mean means happen happens find say"
    " says said tell told know open opens close closes start starts time day days hours name true complete sentence must allowed"
    " get take takes have come want need text document documents section rule rules handbook guide manual policy"
    " following".split()
)
#: cuts a wording's end where a second statement begins
_NEXT = re.compile(r"(?:,| (?:and|or|but|which|who|that|because|while|if|unless|when|so) ).*$")


def first_part(text: str) -> str:
    """A sentence's rest up to where a second statement begins."""
    return _NEXT.sub("", text)


def simple(text: str) -> bool:
    """Whether a piece of a sentence holds no clause of its own, so that a question may leave out what follows it."""
    return not _NEXT.search(f"{text} ") and len(text.split()) <= 8


def specific(question: str) -> bool:
    """Whether a question says what it is about: a name, a code, or two words that are not those of asking."""
    if any(span.sort in ("name", "code") for span in spans.spans(question[:1].lower() + question[1:])):
        return True
    return len({word for word in words.content(question) if word not in ASKING}) >= 2


def titled(chunk: Chunk) -> str:
    """What a document calls itself, where that can stand in a question."""
    title = chunk.headings[0] if chunk.headings else ""
    short = title.split(": ")[0]  # `Boat Club: club handbook`
    title = short if len(words.content(short)) >= 2 else title
    return title if 1 <= len(title.split()) <= 10 else ""


def placed(question: str, chunk: Chunk, draw: Random) -> str | None:
    """A question that names its subject: by itself, or with its section's or its document's heading before it.

    None where it names nothing and stands under no heading.
    """
    low = question if re.match(r"I\b|[A-Z][A-Z0-9]", question) else question[:1].lower() + question[1:]
    section = chunk.headings[-1] if chunk.headings and len(chunk.headings[-1].split()) <= 10 else ""
    if not specific(question):
        if not section or not words.content(section):
            return None
        title = titled(chunk)
        if set(map(words.stem, words.content(question))) & set(map(words.stem, words.content(section))):
            return f"{title}: {low}" if title and title != section else question  # the section's word is in it
        forms = [f"{section}: {low}", f'Under "{section}": {low}', f'About "{section}": {low}']
        if title and title != section:
            forms += [f'In "{title}", under "{section}": {low}', f"{title}, {section}: {low}"]
        return draw.choice(forms)
    if titled(chunk) and draw.random() < 0.3:
        title = titled(chunk)
        return draw.choice([f"{title}: {low}", f'According to "{title}", {low}', f'In "{title}": {low}'])
    return question


def several(questions: Iterable[str], count: int, draw: Random) -> list[str]:
    """So many of the wordings of a question, drawn; each once."""
    there = list(dict.fromkeys(question for question in questions if question))
    return draw.sample(there, min(count, len(there)))


def made(
    questions: Iterable[str], answer: str, kind: str, chunk: Chunk, draw: Random, count: int, answered: bool = True
) -> Iterator[Made]:
    """Exercises of several wordings with one answer; a wording that has the answer in it is left out."""
    for question in several(questions, count, draw):
        asked = placed(question, chunk, draw)
        if asked and answer.rstrip(".").lower() not in asked.lower():
            yield Made(chat(asked, answer), kind, (chunk.id,), answered)


class OfClauses(Mined):
    """Mined from clauses one by one: a method says what it asks of one, in all wordings that it has."""

    phrasings: int

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """The wordings of each clause's questions, the clause's sentence as their answer."""
        for clause in clauses(chunk, others):
            yield from made(self.questions(clause), clause.said, self.called(), chunk, draw, self.phrasings)

    @abstractmethod
    def questions(self, clause: Clause) -> Iterator[str]:
        """What can be asked of a clause so that its sentence is the answer."""
