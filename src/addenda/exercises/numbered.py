"""Numbered: on which form, in which room, on which hook; and which code or number something has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.wording import OfClauses, first_part, simple

_NUMBER = rf"(?:{spans.CODE}|#?\d[\d -]*\d|\d)(?![\w:.,%-]*\d|%| ?[€$£])"
_ON = re.compile(
    rf"(?P<by>on|in|under|with|by|at|to) (?P<the>the )?(?P<noun>[a-z]+) (?P<code>{_NUMBER})(?![\w-]| [a-z]+s\b)"
)


@dataclass(frozen=True)
class Numbered(OfClauses):
    """Codes and numbers that name things: a form, a room, a door's code, a telephone's number."""

    phrasings: int = 4

    name: ClassVar[str] = "numbered"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause that ends in a code or a number, or names a thing by one."""
        ends = [clause.before, clause.condition]
        if clause.negative:
            return
        if clause.verb in ("is", "was") and re.fullmatch(_NUMBER, clause.rest):
            yield clause.ask("What", "")
            yield finish(["Which number or code is", clause.subject, *ends])
            yield finish(["Tell me", clause.subject, *ends])[:-1] + "."
            yield finish(["Please give me", clause.subject, *ends])[:-1] + "."
            return
        found = _ON.search(clause.rest)
        if not found or found["noun"] in words.COMMON or found["noun"].capitalize() in words.MONTHS:
            return
        pre, tail = clause.rest[: found.start()].strip(), first_part(clause.rest[found.end() :]).strip()
        if simple(pre):
            which = f"{found['by'].capitalize()} which {found['noun']}"
            yield clause.ask(which, f"{pre} {tail}")
            yield clause.ask(f"{found['by'].capitalize()} what {found['noun']}", f"{pre} {tail}")
            if not tail:
                yield clause.ask(f"Which {found['noun']}", f"{pre} {found['by']}")
