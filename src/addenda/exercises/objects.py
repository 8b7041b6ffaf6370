"""Objects: what somebody or something does it to, as in `What do guests wear`, or what it is done with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import words
from addenda.exercises.clauses import Clause
from addenda.exercises.wording import OfClauses

_NOUNS = r"(?P<the>an?|the|its|their|your|our) (?P<noun>(?:[a-z-]+ ){0,2}[a-z-]{3,})"
_OBJECT = re.compile(rf"^{_NOUNS}(?P<tail>(?: (?:{'|'.join(words.PREPOSITIONS)}) .*)?)$")
_AFTER = re.compile(
    r"^(?P<by>for|to|on|with|at|into|from|about|in) (?:(?:an?|the|its|their|your|all|new|old) )?[a-z-]+(?: [a-z-]+){0,4}$"
)


@dataclass(frozen=True)
class Objects(OfClauses):
    """What a verb's object is, from sentences of subject, verb and object."""

    phrasings: int = 3

    name: ClassVar[str] = "objects"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause whose verb stands alone, or follows `must` or `may`."""
        if clause.negative or clause.base in (
            "have",
            "do",
            "mean",
            "become",
            "take",
            "remain",
            "need",
            "last",
            "cost",
            "weigh",
        ):
            return
        found = _OBJECT.match(clause.rest)
        if clause.do and found and not set(found["noun"].split()) & words.COMMON and clause.head != "examples":
            noun = found["noun"].split()
            yield clause.ask("What", "")
            if found["tail"] and not found["tail"].startswith((" of ", " between ")):
                yield clause.ask("What", found["tail"])
            if len(noun) == 2 and found["the"] in ("a", "an") and not words.plural(noun[-1]):
                tail = "" if found["tail"].startswith(" of ") else found["tail"]
                yield clause.ask(f"What kind of {noun[-1]}", tail)
                yield clause.ask(f"Which {noun[-1]}", tail)
        elif (
            clause.do
            and (after := _AFTER.match(clause.rest))
            and clause.base in ("pay", "apply", "depend", "refer", "write", "report")
        ):
            yield clause.ask(f"{after['by'].capitalize()} what", "")
            yield clause.ask("What", after["by"])
