"""Duties: what must, may or must not be done, asked as `May members ...?`, answered yes or no with the rule itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import known
from addenda.exercises.parsing import clauses
from addenda.exercises.subjects import is_personal
from addenda.exercises.wording import made


@dataclass(frozen=True)
class Duties(Mined):
    """What must, may or may not be done: yes or no with the rule as its reason, and the rule itself."""

    phrasings: int = 3

    name: ClassVar[str] = "duties"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of each sentence with must, may, can, should, shall or have to."""
        for whole in clauses(chunk, others):
            clause = replace(whole, rest=re.sub(r",? (?:because|so that) .*$", "", whole.rest))
            rule = _rule(clause)
            if not rule:
                continue
            verb, deed = rule
            answer = f"{'No' if clause.negative else 'Yes'}. {clause.said}"
            ruling = known(chunk, others).rules(chunk)
            asked = (
                list(_whether(clause, verb, deed))
                if ruling
                else [finish([verb, clause.subject, deed, clause.before, clause.condition])]
            )
            yield from made(asked, answer, self.called(), chunk, draw, self.phrasings)
            if verb in ("must", "shall", "should", "has to", "have to") and not clause.negative and ruling:
                yield from made(_what(clause, verb, deed), clause.said, self.called(), chunk, draw, 1)


def _rule(clause: Clause) -> tuple[str, str] | None:
    """The modal verb of a rule and what it is about; None where a clause states no rule."""
    if clause.verb in ("must", "may", "can", "should", "shall") and len(clause.rest.split()) <= 18:
        return (
            None
            if re.match(r"(?:only|also|be (?:due|caused|likely)|have|not|therefore)\b", clause.rest)
            else (clause.verb, clause.rest)
        )
    if clause.base in ("have", "need") and clause.rest.startswith("to ") and clause.do in ("do", "does"):
        return "must", clause.rest[3:]
    match = re.match(r"(allowed|permitted|required|obliged|entitled) to (.+)$", clause.rest)
    if match and clause.verb in ("is", "are"):
        return "may" if match[1] in ("allowed", "permitted", "entitled") else "must", match[2]
    return None


def _whether(clause: Clause, verb: str, deed: str) -> Iterator[str]:
    """Questions for yes or no."""
    ends = [clause.before, clause.condition]
    many = clause.subject in ("you", "we") or words.plural(clause.head) or " and " in clause.subject
    if clause.negative and verb in ("must", "may", "can", "shall"):
        verb = "may"
    if verb == "may" or verb == "can":
        yield finish(["May", clause.subject, deed, *ends])
        yield finish(["Can", clause.subject, deed, *ends])
        yield finish(["Are" if many else "Is", clause.subject, "allowed to", deed, *ends])
    elif verb in ("must", "shall"):
        yield finish(["Must", clause.subject, deed, *ends])
        yield finish(["Do" if many else "Does", clause.subject, "have to", deed, *ends])
        yield finish(["Are" if many else "Is", clause.subject, "required to", deed, *ends])
    else:
        yield finish(["Should", clause.subject, deed, *ends])


def _what(clause: Clause, verb: str, deed: str) -> Iterator[str]:
    """Questions for the rule."""
    ends = [clause.before, clause.condition]
    if re.match(r"be [a-z]+(?:ed|en|pt|ld|wn|ne|ut)\b", deed):
        yield finish(["What", verb, "be done with", clause.subject, *ends])
    elif clause.subject == "you" or is_personal(clause.head) or spans.is_person(clause.subject):
        yield finish(["What", verb, clause.subject, "do", *ends])
    else:
        yield finish(["What is the rule for", clause.subject, *ends])
