"""Costs: `The fee for late return is 4 euros.` asked as `What does late return cost?` and in further wordings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.wording import OfClauses, first_part

_PRICED = "fee price cost charge fare rent rate admission tariff toll surcharge".split()
_OF_PRICE = re.compile(rf"^(?:the|a|an) (?:[a-z]+ )?(?:{'|'.join(_PRICED)})s? (?:for|of) (.+)$")
_OTHER = "deposit fine penalty salary wage budget allowance limit bonus pension grant refund contribution reward value".split()


@dataclass(frozen=True)
class Costs(OfClauses):
    """What something costs, or how much is paid, spent or earned, from sentences that state a sum of money."""

    phrasings: int = 4

    name: ClassVar[str] = "costs"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause whose rest begins with a sum, or has it after one or two words."""
        match = re.match(rf"^(?P<pre>(?:[a-z-]+ ){{0,3}}?)(?P<sum>{spans.MONEY})(?P<tail>.*)$", clause.rest)
        if not match or clause.negative:
            return
        pre, tail = match["pre"].strip(), first_part(match["tail"]).strip()
        if re.search(spans.MONEY, tail) or tail.startswith(("%", "-")):
            return
        last = pre.split()[-1] if pre else ""
        if last in ("for", "at"):
            front = pre.rsplit(" ", 1)[0] if " " in pre else ""
            yield clause.ask(f"{last.capitalize()} how much", f"{front} {tail}")
        elif last in words.PREPOSITIONS | words.DETERMINERS | {"and", "or"}:
            return
        elif not pre and clause.verb in words.BE:
            yield from _worth(clause, tail)
        elif not pre and clause.base == "cost":
            yield clause.ask("How much", tail)
            yield clause.ask("What", tail)
            yield from _paid(clause.subject, clause, tail)
            if len(clause.subject.split()) <= 4 and not tail:
                yield finish(["What is the price of", clause.subject, clause.before, clause.condition])
        else:
            yield clause.ask("How much", f"{pre} {tail}")
            yield clause.ask("How much money", f"{pre} {tail}")


def _worth(clause: Clause, tail: str) -> Iterator[str]:
    """Of `SUBJECT is SUM`."""
    ends = [tail, clause.before, clause.condition]
    yield clause.ask("How much", tail)
    thing = _OF_PRICE.match(clause.subject)
    if clause.head in _OTHER + _PRICED or clause.head.rstrip("s") in _OTHER + _PRICED:
        yield clause.ask("What", tail)
        yield clause.ask("How high", tail)
        yield finish(["Tell me how much", clause.subject, clause.verb, *ends]).replace("?", ".")
    elif words.content(clause.subject):
        yield finish(["How much does" if not clause.plural else "How much do", clause.subject, "cost", *ends])
        yield finish(["What does" if not clause.plural else "What do", clause.subject, "cost", *ends])
    if thing:
        yield finish(["What is charged for", thing[1], *ends])
        yield from _paid(thing[1], clause, tail)


def _paid(thing: str, clause: Clause, tail: str) -> Iterator[str]:
    """Wordings about who pays for a thing."""
    ends = [tail, clause.before, clause.condition]
    does = "do" if words.plural(thing.split()[-1]) and " of " not in thing else "does"
    if clause.base != "cost" and " " in thing:
        yield finish([f"How much {does}", thing, "cost", *ends])
        yield finish([f"What {does}", thing, "cost", *ends])
    yield finish(["How much do I have to pay for", thing, *ends])
    yield finish(["How much must be paid for", thing, *ends])
    yield finish(["What do I pay for", thing, *ends])
