"""Facts turned round: from what a sentence states back to what it is said of, as in `Which key is kept in the grey locker`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause
from addenda.exercises.subjects import is_personal
from addenda.exercises.wording import OfClauses, specific

_VAGUE = (
    "thing part kind sort type form way number set lot one example process rest case reason result purpose aim".split()
)
_ANY = "each every all any most some many no several few both".split()


@dataclass(frozen=True)
class Turned(OfClauses):
    """What or which thing something is said of: a fact asked from its other end."""

    phrasings: int = 2

    name: ClassVar[str] = "turned"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause whose rest says enough to know its subject by it."""
        if clause.negative or not _telling(clause):
            return
        front = re.split(rf" (?:{'|'.join(words.PREPOSITIONS)}|who|that|which|whose) ", clause.subject)[0].split()
        if is_personal(clause.head):
            yield clause.of_subject("Who")
            return
        if re.fullmatch(spans.CODE, clause.head) and len(front) >= 2:
            yield clause.of_subject(f"Which {front[-2].lower()}")
        elif not clause.proper and _has_more(clause, front):
            yield clause.of_subject(f"Which {clause.head}")
        if clause.verb not in words.BE or re.match(r"[a-z]+(?:ed|en|pt|ld|nd)\b", clause.rest):
            named = clause.proper and not clause.subject.startswith("the ")
            yield clause.of_subject("Who or what" if named else "What")


def _has_more(clause: Clause, front: list[str]) -> bool:
    """Whether the subject says which of its sort it is, so that `which key` asks for it."""
    if not re.fullmatch(r"[a-z-]{3,}", clause.head) or clause.head in _VAGUE or front[0].lower() in _ANY:
        return False
    if " and " in clause.subject or (clause.verb in words.BE and clause.rest.startswith("the ")):
        return False
    return len(front) > 1 + (front[0].lower() in words.DETERMINERS) or clause.subject != " ".join(front)


def _telling(clause: Clause) -> bool:
    """Whether the subject is not a person by name, and the rest is particular: it has a number, a name or three words."""
    if spans.is_person(clause.subject) or clause.subject in ("you", "we") or clause.condition:
        return False
    if re.search(r"\b(?:they|their|its?)\b", clause.rest) or len(clause.rest.split()) > 16:
        return False
    if re.match(r"(?:an?|one|the same|not|able|likely|important|also) ", clause.rest):
        return False
    telling = bool(list(spans.spans(clause.rest))) or len(words.content(clause.rest)) >= 3
    return telling and specific(clause.of_subject("What"))
