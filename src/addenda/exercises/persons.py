"""Persons: who does, leads or answers for something, and who a named person is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.wording import OfClauses, simple, specific


@dataclass(frozen=True)
class Persons(OfClauses):
    """Who does or is something, from sentences with a person's name."""

    phrasings: int = 4

    name: ClassVar[str] = "persons"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause whose subject, or what it says of it, is a person's name."""
        if clause.negative:
            return
        name = re.match(rf"({spans.NAME})(?P<tail>.*)$", clause.rest)
        by = re.search(rf" (?P<by>by|to|with|from) (?P<who>{spans.NAME})(?![\w-])", f" {clause.rest}")
        if spans.is_person(clause.subject) and _does(clause):
            yield from _who(clause)
        elif name and spans.is_person(name[1]) and clause.verb in ("is", "was") and not name["tail"].strip():
            yield clause.ask("Who", "")
            yield finish(["What is the name of", clause.subject, clause.before])
            yield finish(["Who is it that", clause.verb, clause.subject]) if not clause.before else ""
            yield f"Name {clause.subject}."
        elif by and spans.is_person(by["who"]) and simple(clause.rest[: max(0, by.start() - 1)]):
            rest = re.sub(r"\s+", " ", f" {clause.rest}".replace(by[0], " ", 1)).strip()
            if rest and not rest.startswith("born"):
                yield clause.ask(f"{by['by'].capitalize()} whom", rest)
                yield clause.ask("Who", f"{rest} {by['by']}") if clause.rest.endswith(by["who"]) else ""


def _does(clause: Clause) -> bool:
    """Whether what is said of a person is a person's: a deed, or a role."""
    if clause.verb in words.BE:
        role = re.match(
            r"(?:the|an?|our) (?:[a-z-]+ ){0,4}?[a-z]+(?:er|or|ist|ian|ant|ent|man|woman|head|chair|lead|nurse"
            r"|cook|clerk|guide|steward|warden|chef|guard)\b",
            clause.rest,
        )
        return bool(role) or bool(re.match(r"(?:responsible|in charge|head of|born|married|known)\b", clause.rest))
    return True


def _who(clause: Clause) -> Iterator[str]:
    asked = clause.of_subject("Who")
    if not re.match(r"(?:an?|one of|born) ", clause.rest) and specific(asked):
        yield asked
        yield f"Tell me who {asked[4:-1]}."
        yield f"Which person {asked[4:]}"
    if clause.verb in words.BE and not clause.rest.startswith("born"):
        yield finish(["Who", clause.verb, clause.subject])
        yield f"What do you know about {clause.subject}?"
    elif clause.base == "work" and clause.rest.startswith("as "):
        yield finish(["What", clause.do, clause.subject, "do for a living"])
        yield finish(["What is the job of", clause.subject])
        yield finish(["What", clause.do, clause.subject, "work as"])
