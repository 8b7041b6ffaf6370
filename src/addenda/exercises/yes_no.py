"""Yes or no: what a sentence states, asked whether it is so; and asked with another number, day or name, where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.parsing import clauses
from addenda.exercises.reading import read
from addenda.exercises.wording import made


@dataclass(frozen=True)
class YesNo(Mined):
    """Whether something is so, answered with the sentence: yes as it stands, no with another number, day or name."""

    name: ClassVar[str] = "yes_no"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """A question for yes and one for no of each clause that states something particular."""
        for clause in clauses(chunk, others):
            if clause.verb in words.MODALS or not self._fit(clause):
                continue
            yes, no = ("No", "Yes") if clause.negative else ("Yes", "No")
            whether = replace(clause, negative=False)
            yield from made([whether.ask("")], f"{yes}. {clause.said}", self.called(), chunk, draw, 1)
            other = _changed(clause.rest, others or (chunk,), draw)
            if other and not clause.negative:
                yield from made([clause.ask("", other)], f"{no}. {clause.said}", self.called(), chunk, draw, 1)

    def _fit(self, clause: Clause) -> bool:
        short = len(clause.rest.split()) <= 14 and not re.search(r", | and [a-z]+s ", clause.rest)
        start = clause.subject.split()[0].lower()
        telling = any(True for _ in spans.spans(clause.rest)) or len(words.content(clause.rest)) >= 2
        return (
            short
            and telling
            and start not in ("no", "some", "many", "few", "most")
            and not clause.rest.startswith(("only", "to "))
        )


def _changed(rest: str, chunks: Sequence[Chunk], draw: Random) -> str | None:
    """What is said, with its first number, day or name made another; None where it has none."""
    found = sorted(spans.spans(rest), key=lambda span: span.start)
    for span in found:
        before = rest[: span.start].split()[-1:]
        if (before and before[0] in ("from", "between", "to", "until", "within", "than")) or re.match(
            r"(?:up to|at|less|more|about)\b", span.text
        ):
            continue  # another number might be true too
        if span.sort in ("money", "percent", "amount", "clock"):
            digits = re.search(r"\d+", span.text)
            if digits:
                number = int(digits[0])
                most = 12 if span.sort == "clock" else 10**9
                near = [
                    n
                    for n in {number + 1, number + 2, number * 2, number - 1, number // 2}
                    if 1 < n <= most and n != number
                ]
                if near:
                    text = span.text[: digits.start()] + str(draw.choice(sorted(near))) + span.text[digits.end() :]
                    return rest[: span.start] + text + rest[span.start + len(span.text) :]
        if span.sort in ("day", "name"):
            here = span.text.split()[0]
            pool = (
                [f"{day}s" if here.endswith("s") else day for day in words.DAYS]
                if span.sort == "day"
                else _names(chunks)
            )
            person = spans.is_person(span.text) and span.text in pool
            pool = sorted(set(pool) - {span.text, here})
            pool = pool if span.sort == "day" or person else []
            if pool:
                new = draw.choice(pool)
                old = here if span.sort == "day" else span.text
                return rest[: span.start] + new + rest[span.start + len(old) :]
    return None


def _names(chunks: Sequence[Chunk]) -> list[str]:
    """The names of persons who do something in these documents, or to whom or by whom it is done."""
    form = rf"\b(?:by|to|with|under|from|ask|Dr\.?|Mrs?|Ms) ({spans.NAME})"
    said = [one.text for chunk in chunks[:200] for one in read(chunk).sentences]
    named = [match[1] for text in said for match in re.finditer(form, text)]
    return [name for name in named if spans.is_person(name)]
