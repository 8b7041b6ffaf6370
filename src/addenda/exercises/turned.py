"""Facts turned round: from what a sentence states back to what it states it of: `Which key is kept in the grey locker?`"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause
from addenda.exercises.wording import OfClauses, specific

_VAGUE = (
    "thing part kind sort type form way number set lot one example process rest case reason result purpose aim".split()
)


@dataclass(frozen=True)
class Turned(OfClauses):
    """What or which thing something is said of: a fact asked from its other end."""

    phrasings: int = 2

    name: ClassVar[str] = "turned"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause whose rest says enough to know its subject by it."""
        if clause.negative or not self._telling(clause):
            return
        front = re.split(rf" (?:{'|'.join(words.PREPOSITIONS)}) ", clause.subject)[0].split()
        head, code = clause.head, re.fullmatch(spans.CODE, clause.head)
        if code and len(front) >= 2:
            yield clause.of_subject(f"Which {front[-2].lower()}")
        elif (
            not clause.proper
            and len(clause.subject.split()) >= 2
            and re.fullmatch(r"[a-z-]{3,}", head)
            and head not in _VAGUE
        ):
            named = (
                len(front) > (2 if front[0].lower() in words.DETERMINERS else 1)
                or " " in clause.subject[len(" ".join(front)) :]
            )
            if named and front[0].lower() not in ("each", "every", "all", "any", "most", "some", "many", "no"):
                yield clause.of_subject(f"Which {head}")
        if clause.verb not in words.BE or re.match(r"[a-z]+(?:ed|en|pt|ld|nd)\b", clause.rest):
            yield clause.of_subject("What")

    def _telling(self, clause: Clause) -> bool:
        """Whether the subject is a thing, and the rest is particular: it has a number, a name or three words of content."""
        if (
            spans.is_person(clause.subject)
            or clause.subject in ("you", "we")
            or clause.condition
            or re.search(r"\b(?:they|their|its?)\b", clause.rest)
        ):
            return False
        person = re.search(
            r"(?:ers|ees|ents|ants|ists|men|women|people|children|staff|er|ee|ist|person|member|members|students?)$",
            clause.head,
        )
        if (
            person
            or re.match(r"(?:an?|one|the same|not|able|likely|important|also) ", clause.rest)
            or len(clause.rest.split()) > 16
        ):
            return False
        asked = clause.of_subject("What")
        return specific(asked) and (bool(list(spans.spans(clause.rest))) or len(words.content(clause.rest)) >= 3)
