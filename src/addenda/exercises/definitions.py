"""Definitions: `A steward is ...`, `X means ...`, `X is called ...`, asked for the meaning, and for the term."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause, finish
from addenda.exercises.wording import OfClauses, first_part


@dataclass(frozen=True)
class Definitions(OfClauses):
    """What a term is or means, and what a described thing is called."""

    phrasings: int = 4

    name: ClassVar[str] = "definitions"

    def questions(self, clause: Clause) -> Iterator[str]:
        """Of a clause that says what its subject is."""
        term = clause.subject
        if (
            clause.negative
            or clause.condition
            or len(term.split()) > 6
            or term in ("you", "we")
            or re.match(r"(?:(?:an?|the|one) )?examples?\b", term)
        ):
            return
        called = re.match(r"^(?:also )?(?:called|known as|referred to as|termed|named) (.+)$", clause.rest)
        if clause.verb in ("is", "are") and called:
            yield clause.ask(
                "What",
                re.sub(r" (.+)$", "", clause.rest)
                if " as " not in clause.rest
                else clause.rest.split(" as ")[0] + " as",
            )
            yield finish(["What is the name of", term, clause.before])
            yield finish(["What is meant by", first_part(called[1])]) if len(called[1].split()) <= 6 else ""
        elif clause.base in ("mean",) or re.match(
            r"(?:refers to|stands for|is defined as)\b", f"{clause.verb} {clause.rest}"
        ):
            yield from self._meaning(clause, term)
        elif clause.verb in ("is", "are") and self._is_kind(clause):
            person = spans.is_person(term)
            yield clause.ask("Who" if person else "What", "")
            if not person and not clause.proper:
                yield from self._meaning(clause, term)
            elif not person:
                yield finish(["What sort of thing", clause.verb, term])
                yield f"Explain what {term} {clause.verb}."

    def _is_kind(self, clause: Clause) -> bool:
        """Whether the rest says what sort of thing the subject is, and not how many or where."""
        start = re.match(
            r"(?:an?|any|one of the) (?=[a-z])" if clause.plural else r"(?:an?|any|the|one of the) (?=[a-z])",
            clause.rest,
        )
        many = clause.plural and re.match(r"[a-z]+s (?:that|which|who|of|for|in|with)\b", clause.rest)
        front = clause.subject.split()[0].lower()
        if (
            not (start or many)
            or front in ("each", "every", "some", "many", "most", "all", "both", "no", "any")
            or clause.before
        ):
            return False
        return len(clause.rest.split()) >= 4 and not re.match(
            r"the (?:same|only|first|last|most|result|case|reason)\b|a (?:result|lot|good|few)\b", clause.rest
        )

    def _meaning(self, clause: Clause, term: str) -> Iterator[str]:
        does = "do" if clause.plural else "does"
        bare = re.sub(r"^(?:an?|the) ", "", term)
        yield finish([f"What {does}", f'"{bare}"', "mean", clause.before])
        yield finish(["What is meant by", f'"{bare}"', clause.before])
        yield finish(["How is", f'"{bare}"', "defined", clause.before])
        yield (
            f"Explain what {term} {'are' if clause.plural else 'is'}."
            if not clause.base
            else f'Explain the term "{bare}".'
        )
        if words.words(term)[0].lower() in ("a", "an") and 4 <= len(clause.rest.split()) <= 25:
            yield finish(["What is the word for", re.sub(r", .*$", "", clause.rest)])
