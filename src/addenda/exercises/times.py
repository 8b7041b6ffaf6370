"""Times: when something is, opens, ends or happened; from clock times, days, dates and years."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from addenda.exercises import spans
from addenda.exercises.clauses import Clause
from addenda.exercises.wording import OfClauses, first_part, simple

_WHEN = (
    rf"(?:{spans.CLOCK}|{spans.DATE}|{spans.DAY}|(?:nine|ten|eleven|noon|midnight)(?! \w)|weekdays|weekends"
    rf"|working days|(?:the )?(?:first|second|third|last|1st|15th) (?:{spans.DAY}|day)?(?: of (?:each|every|the) month)?)"
)
_STATED = re.compile(
    rf"(?P<by>from|between|at|on|in|by|until|before|after|since|every) (?P<when>{_WHEN})(?:(?:,? (?:and|or|to"
    rf"|until) |, )(?:(?:at|on|in|until) )?{_WHEN})*(?![\w-])"
)


@dataclass(frozen=True)
class Times(OfClauses):
    """When something is: by the clock, by day, by date or by year."""

    phrasings: int = 4

    name: ClassVar[str] = "times"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause with a time after its verb, or as its whole rest, or before its subject."""
        if clause.negative:
            return
        if (
            clause.verb in ("is", "was")
            and re.fullmatch(_WHEN, clause.rest)
            and not re.fullmatch(r"\d{4}", clause.rest)
        ):
            yield clause.ask("When", "")
            yield clause.ask("What", "")
            return
        match = _STATED.search(clause.rest)
        pre = clause.rest[: match.start()].strip() if match else ""
        if match and simple(pre) and not re.search(r"\b(?:born|years?|issue|edition)$", clause.subject):
            tail = first_part(clause.rest[match.end() :]).strip()
            yield from _asked(clause, match, pre, "" if re.match(r"in [A-Z]", tail) else tail)
        elif (match := _STATED.fullmatch(clause.before)) and len(clause.rest.split()) <= 14:
            yield from (replace(clause, before="").ask(wh, clause.rest) for wh in _words(match))


def _asked(clause: Clause, match: re.Match[str], pre: str, tail: str) -> Iterator[str]:
    for wh in _words(match):
        yield clause.ask(wh, f"{pre} {tail}")


def _words(match: re.Match[str]) -> Iterator[str]:
    """How a time is asked for."""
    by, when = match["by"], match["when"]
    clock, day = re.fullmatch(spans.CLOCK, when), re.match(rf"{spans.DAY}|week|working", when)
    if by in ("by", "until", "since", "before", "after"):
        yield (
            f"{by.capitalize()} when"
            if by not in ("before", "after")
            else f"{by.capitalize()} what time"
            if clock
            else "When"
        )
        if clock or day:
            yield f"{by.capitalize()} what time" if clock else f"{by.capitalize()} which day"
        elif by != "since":
            yield f"{by.capitalize()} which {'year' if re.fullmatch(r'[0-9]{4}', when) else 'date'}"
        return
    yield "When"
    if clock:
        yield from ("During which hours", "At what times") if by in ("from", "between") else ("At what time",)
    elif day:
        yield "On which days" if when.endswith("s") or by == "every" else "On which day"
    elif re.fullmatch(r"\d{4}", when):
        yield "In which year" if by == "in" else ""
        yield "In what year" if by == "in" else ""
    elif re.fullmatch("|".join(["(?:" + "|".join(spans.words.MONTHS) + ")"]), when):
        yield "In which month"
    elif by == "on":
        yield "On which date"
        yield "On what day"
