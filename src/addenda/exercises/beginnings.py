"""Beginnings: a sentence cut before what it states, to be completed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.known import english, known
from addenda.exercises.parsing import clauses
from addenda.exercises.reading import read
from addenda.exercises.wording import several, specific

_ASKED = {
    "en": (
        "Complete: {0} ...",
        'Complete the sentence: "{0} ..."',
        'How does this sentence go on? "{0} ..."',
        "Finish this: {0} ...",
    ),
    "fr": ("Complète : {0} ...",),
    "de": ("Vervollständige: {0} ...",),
    "es": ("Completa: {0} ...",),
    "it": ("Completa: {0} ...",),
}


@dataclass(frozen=True)
class Beginnings(Mined):
    """Sentences cut before what they state; the answer is the whole sentence."""

    phrasings: int = 2

    name: ClassVar[str] = "beginnings"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of English clauses before what follows the verb; in other languages before a number or a name."""
        for beginning, sentence in _english(chunk, others) if english(chunk, others) else _any(chunk):
            forms = _ASKED.get(
                known(chunk, others).language(chunk), ("{0} ...",) if not english(chunk, others) else _ASKED["en"]
            )
            for question in several((form.format(beginning) for form in forms), self.phrasings, draw):
                yield Made(chat(question, sentence), self.called(), (chunk.id,))


def _english(chunk: Chunk, others: Sequence[Chunk]) -> Iterator[tuple[str, str]]:
    for clause in clauses(chunk, others):
        at = clause.said.find(f" {clause.rest.split()[0]}", len(clause.before) + len(clause.subject))
        stated = sorted((span for span in spans.spans(clause.said) if span.start > at > 0), key=lambda span: span.start)
        if stated and stated[0].start - at < 60:
            at = stated[0].start - 1
        beginning = clause.said[:at] if at > 0 else ""
        if len(beginning.split()) >= 3 and specific(beginning):
            yield beginning, clause.said


def _any(chunk: Chunk) -> Iterator[tuple[str, str]]:
    for sentence in read(chunk).sentences:
        stated = re.search(r" (?:[€$£]?\d|[A-ZÀ-Þ][\w-]+ [A-ZÀ-Þ])", sentence.text[20:])
        if stated and not sentence.item and len(sentence.text.split()) <= 40:
            beginning = sentence.text[: 20 + stated.start()]
            if len(words.content(beginning)) >= 3:
                yield beginning, sentence.text
