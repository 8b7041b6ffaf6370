"""Amounts: how many, how long, how often, how large; from sentences that state a number with what it counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.wording import OfClauses, first_part

_LASTING = r"(?:second|minute|hour|day|week|month|year|night|working day|business day|calendar day)s?"
_SIZES = "wide tall high long deep thick old away heavy large big".split()
_ONE = rf"(?P<about>(?:about |at most |at least |up to )?)(?P<number>one|1) (?P<unit>{_LASTING})(?![\w-])"


@dataclass(frozen=True)
class Amounts(OfClauses):
    """How many or how long something is: from numbers with a unit or a noun."""

    phrasings: int = 4

    name: ClassVar[str] = "amounts"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause with one amount, at most four words after its verb."""
        if clause.negative or re.search(spans.MONEY, clause.rest):
            return
        form = rf"(?:{spans.AMOUNT})" if re.search(spans.AMOUNT, clause.rest) else _ONE
        match = re.match(rf"^(?P<pre>(?:[a-z-]+ ){{0,4}}?){form}(?P<tail>.*)$", clause.rest)
        if not match:
            yield from _percent(clause)
            return
        pre, unit, rest = match["pre"].strip(), match["unit"], match["tail"]
        if re.match(r" (?:or|to|and) (?:\d|[a-z]+ " + _LASTING + r")|['’]|-", rest):  # a range, or `two days' notice`
            return
        tail = first_part(rest).strip()
        if partial := re.match(r"of [a-z-]+(?! of)", tail):
            unit, tail = f"{unit} {partial[0]}", tail[partial.end() :].strip()
        tail = "" if tail.startswith("with ") else tail
        lasting = bool(re.fullmatch(_LASTING, unit))
        front, _, last = pre.rpartition(" ")
        many = unit if words.plural(unit.split(" of ")[0]) else unit + "s"
        if last in words.PREPOSITIONS or last == "every":
            yield from _after(clause, last, front, many, lasting, tail)
        elif last in words.DETERMINERS | {"and", "or", "than", "as", "to"} or set(pre.split()) & words.SUBORDINATE:
            return
        elif not pre and clause.verb in words.BE:
            yield from _measured(clause, unit, lasting, tail)
        else:
            yield clause.ask(f"How many {many}", f"{pre} {tail}")
            if (lasting and clause.base in ("take", "last")) or (lasting and last in ("take", "last")):
                yield clause.ask("How long", f"{pre} {tail}")
            elif clause.base != "have" or not clause.do:
                yield clause.ask(f"What number of {many}", f"{pre} {tail}")
            if match["about"].strip() in ("up to", "at most"):
                yield _largest(clause, many, pre, tail)


def _largest(clause: Clause, unit: str, pre: str, tail: str) -> str:
    verb = clause.verb if not clause.do else ""
    if not verb or verb in words.BE:
        return ""
    return finish(
        [f"What is the largest number of {unit} that", clause.subject, verb, pre, tail, clause.before, clause.condition]
    )


def _after(clause: Clause, last: str, front: str, unit: str, lasting: bool, tail: str) -> Iterator[str]:
    """Of an amount that a preposition leads in."""
    rest = f"{front} {tail}"
    if last == "every" and lasting:
        yield clause.ask("How often", rest)
        yield clause.ask(f"Every how many {unit}", rest)
    elif last == "for" and lasting:
        yield clause.ask("For how long", rest)
        yield clause.ask("How long", rest)
        yield clause.ask(f"For how many {unit}", rest)
    elif last in ("within", "after", "before", "during") and lasting:
        yield clause.ask(f"{last.capitalize()} how many {unit}", rest)
        if last == "within":
            yield clause.ask("How soon", rest)
            yield clause.ask("How quickly", rest)
            yield clause.ask("Within what time", rest)
    elif last in ("with", "by", "from", "to", "of") and not lasting and front:
        yield clause.ask(f"{last.capitalize()} how many {unit}", rest)


def _measured(clause: Clause, unit: str, lasting: bool, tail: str) -> Iterator[str]:
    """Of `SUBJECT is AMOUNT`."""
    size = tail.split(" ")[0]
    if size in _SIZES:
        yield clause.ask(f"How {size}", tail[len(size) :])
    elif not tail.startswith(("of ", "in ")):
        yield clause.ask("What", tail)
        yield (
            clause.ask("How long" if lasting else "How much", tail)
            if not clause.plural and (lasting or "s" in unit)
            else ""
        )
        yield finish(["Tell me what", clause.subject, clause.verb, tail, clause.before, clause.condition])[:-1] + "."


def _percent(clause: Clause) -> Iterator[str]:
    """Of a percentage."""
    match = re.match(rf"^(?P<pre>(?:[a-z-]+ ){{0,3}}?)(?:{spans.PERCENT})(?P<tail>.*)$", clause.rest)
    if not match:
        return
    pre, tail = match["pre"].strip(), first_part(match["tail"]).strip()
    if not pre and clause.verb in words.BE and not tail.startswith("of"):
        yield clause.ask("What", tail)
        yield clause.ask("How high", tail)
    elif (not pre or pre.split()[-1] not in words.PREPOSITIONS | words.DETERMINERS) and tail.startswith("of "):
        yield clause.ask("What percentage", f"{pre} {tail}") if not pre else ""
        yield clause.ask(f"What percentage {tail}", pre)
        yield clause.ask(f"How much {tail}", pre)
