"""Near misses: questions on things and persons that the documents tell of, on what they do not tell of these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from addenda.exercises import spans, untold_near, words
from addenda.exercises.exercise import Chunk
from addenda.exercises.known import Known
from addenda.exercises.parsing import clauses

#: what may stand before a noun and does not say which one is meant
_VAGUE = frozenset("same last next first second third new own whole following only other right nearest entire".split())
#: what follows a noun that ends where it stands
_AFTER = (
    words.BE
    | words.MODALS
    | (words.PREPOSITIONS - {"of", "for", "to", "with", "from", "without", "about"})
    | {"and", "or", "but", "has", "have", "had"}
)


def near_misses(chunk: Chunk, others: Sequence[Chunk], all_of: Known) -> list[str]:
    """All of a chunk, on what no earlier chunk named."""
    if "near" not in all_of.kept:
        made: dict[str, list[str]] = {}
        seen: set[str] = set()
        for one in all_of.chunks:
            made.setdefault(one.id, []).extend(_fresh(_questions(one, others, all_of), seen))
        all_of.kept["near"] = made
    return list(all_of.kept["near"][chunk.id])


def _fresh(questions: Iterator[str], seen: set[str]) -> Iterator[str]:
    for question in questions:
        if question not in seen:
            seen.add(question)
            yield question


def _questions(chunk: Chunk, others: Sequence[Chunk], all_of: Known) -> Iterator[str]:
    for name in (*_persons(chunk, others), *(f"the {role}" for role in _named(chunk.text, untold_near.ROLES))):
        for form, barred in untold_near.OF_PERSONS:
            if not all_of.vocabulary.has(barred):
                yield form.format(name)
    for nouns, forms, narrow in untold_near.SORTS:
        for thing in _named(chunk.text, nouns):
            told = all_of.around(thing.split()[-1]) if narrow else all_of.vocabulary
            for form, barred in forms:
                if not told.has(barred):
                    yield form.format(thing)


def _persons(chunk: Chunk, others: Sequence[Chunk]) -> Iterator[str]:
    """Names of persons: who does something, who is something, and by whom something is done."""
    for clause in clauses(chunk, others):
        by = re.search(rf"\bby ({spans.NAME})(?![\w-])", clause.rest)
        is_one = clause.rest if clause.verb in words.BE else ""
        for name in (clause.subject, is_one, by[1] if by else ""):
            if spans.is_person(name):
                yield name


def _named(text: str, nouns: str) -> Iterator[str]:
    """Things with `the` before them and nothing after them that says more of which one: `spare key`."""
    form = rf"\b[Tt]he ((?:[a-z]+(?:-[a-z]+)* ){{0,2}}(?:{'|'.join(nouns.split())}))\b(?=([^\w\s]| \w+|\s*$))"
    for match in re.finditer(form, text):
        *before, _ = match[1].split()
        if all(map(_describes, before)) and _ends(match[2].strip()):
            yield match[1]


def _describes(word: str) -> bool:
    """Whether a word may stand between `the` and a noun, and is not the noun itself."""
    if word in words.COMMON or word in _VAGUE or words.third(word) or words.plural(word):
        return False
    return not (word.endswith(("ly", "ing")) or (word.endswith("ed") and len(word) > 4))


def _ends(after: str) -> bool:
    """Whether a noun ends before this: a mark, or a word that no noun has after it."""
    low = after.lower()
    return not re.match(r"[\w'’\-]", low) or low in _AFTER or bool(words.third(low))
