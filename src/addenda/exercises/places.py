"""Places: where something is, is kept or happens, and where somebody lives, works or was born."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.wording import OfClauses, first_part

#: what is so can be found there
_FOUND = "kept stored located situated parked hung displayed placed posted pinned locked".split()
_HERE = (
    _FOUND
    + (
        "recorded written noted entered found housed held left buried available born collected returned"
        " delivered picked served sold"
        " signed issued built founded established"
    ).split()
)
_VERBS = "belong go live work stand lie hang meet stay sleep sit".split()
_BY = r"(?:in|at|on|near|behind|beside|under|above|inside|outside|opposite|next to|in front of|along|into|between|beneath)"
_IDIOM = (
    r"\w+ (?:the |a |an )?(?:charge|use|order|effect|force|danger|doubt|addition|case|general|line|particular|fact|contact|short"
    r"|turn|need|part|full|time|duty|request|loan|sale|hand|average|risk|least|most|once|process|form|interest|name|writing"
    r"|advance|cash|person|way|manner|kind|basis|state|middle|leave|call|holiday|strike|fire|behalf|condition|role|position"
    r"|level|rate|price|cost|end|beginning|start|field|area of|history|response|terms|theory|practice|which|whom)\b"
)


@dataclass(frozen=True)
class Places(OfClauses):
    """Where something is or somebody lives, works or was born."""

    phrasings: int = 4

    name: ClassVar[str] = "places"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause with a place after its verb."""
        if clause.negative:
            return
        match = re.match(rf"^(?P<pre>(?:[a-z]+ ){{0,4}}?)(?P<where>{_BY} [^,;]+)(?P<tail>.*)$", clause.rest)
        if not match or not _is_place(match["where"]):
            return
        pre = match["pre"].split()
        if clause.verb in words.BE and not pre:
            yield clause.ask("Where", "")
            yield finish(["Where can I find", clause.subject, clause.before, clause.condition])
            yield finish([f"In what place {clause.verb}", clause.subject, clause.before, clause.condition])
        elif pre and pre[-1] in _HERE and (clause.verb in words.BE or pre[0] == "be"):
            yield clause.ask("Where", match["pre"])
            yield clause.ask("In which place", match["pre"])
            if pre[-1] in _FOUND and clause.verb in ("is", "are"):
                yield finish(["Where can I find", clause.subject, clause.before, clause.condition])
                yield finish(["Where do I look for", clause.subject, clause.before, clause.condition])
        elif clause.base in _VERBS and not pre:
            yield clause.ask("Where", "")
            if clause.base in ("live", "work") and re.match(r"(?:in|at) [A-Z]", match["where"]):
                yield clause.ask("In which place", "")
                yield finish([f"What is the place where {clause.subject} {clause.verb}"])
        elif clause.base == "take" and pre == ["place"]:
            yield clause.ask("Where", "place")


def _is_place(where: str) -> bool:
    """Whether what follows `in`, `at` or `on` is a place, and neither a time nor a figure of speech."""
    if re.match(_IDIOM, where) or re.match(
        rf"\w+ (?:{spans.DATE}|{spans.CLOCK}|{spans.DAY}|\d+ |\w+ (?:days?|weeks?|months?|years?)\b)", where
    ):
        return False
    if re.search(
        rf"{spans.DAY}|\b(?:{'|'.join(words.MONTHS)})\b|\b(?:day|week|month|year|evening|morning|century)\b",
        first_part(where),
    ):
        return False
    if re.match(r"\w+ [a-z]+ \d", where):  # `on hook 11`
        return True
    after = first_part(where).split()[1:]
    return (
        bool(after)
        and (after[0].lower() in words.DETERMINERS or after[0][:1].isupper() or after[0] in ("of", "to", "front"))
        and after[0] not in ("no", "all")
    )
