"""Subjects: which words can be a sentence's subject, whether they are many, and whether a first capital is a name's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from addenda.exercises import words


def small(text: str, seen: frozenset[str]) -> str:
    """A sentence's beginning as it stands within one: a capital is kept where it is a name's."""
    first, _, rest = text.partition(" ")
    return text if is_name(first, rest, seen) else text[:1].lower() + text[1:]


def name_of(subject: str, seen: frozenset[str]) -> bool:
    """Whether a subject is a name: it has its capital as one, or is written with capitals throughout after `The`."""
    first, _, rest = subject.partition(" ")
    inside = [word for word in rest.split() if word.lower() not in words.COMMON]
    return is_name(first, rest, seen) or (
        first == "The" and bool(inside) and all(word[:1].isupper() for word in inside)
    )


def is_name(first: str, rest: str, seen: frozenset[str]) -> bool:
    """Whether the first word of a sentence has its capital as a name."""
    low = first.lower()
    if low in words.COMMON or (low in words.ORDERS and low in seen):
        return first == "I"
    if low in words.MASS and not rest[:1].isupper():
        return False
    if first in seen:
        return low not in seen or first[1:] != first[1:].lower()
    if low in seen or re.search(r"(?:ing|tion|sion|ment|ness|ship|ance|ence|ities)s?$", low):
        return False
    if first[1:] != first[1:].lower() or any(mark.isdigit() for mark in first):
        return True
    if rest:
        return bool(re.match(r"[A-ZÀ-Þ0-9]", rest))
    return not words.plural(first)


def many(subject: Sequence[str]) -> bool:
    """Whether a subject takes a verb of the plural."""
    if " ".join(subject).lower() in ("you", "we", "i"):
        return True
    front = re.split(rf" (?:{'|'.join(words.PREPOSITIONS | {'who', 'that', 'which'})}) ", " ".join(subject))[0].split()
    if "and" in front and front[0].lower() not in ("each", "every"):
        return True
    if front[0].lower() in ("each", "every", "a", "an", "one", "no"):
        return False
    return words.plural(front[-1])


def is_subject(parts: Sequence[str]) -> bool:
    """Whether words can be a subject: they name something, end in it, and have no clause of their own."""
    low = [part.lower() for part in parts]
    if low in (["you"], ["we"]):
        return True
    verbs = (words.SUBORDINATE - {"than", "as"}) | words.MODALS | words.BE | {"not", "has", "have", "had"}
    if any(word in verbs for word in low) or len(parts) > 12:
        return False
    if low[-1] in words.COMMON - words.NUMBERS or low[0] in words.POINTING or not words.content(" ".join(parts)):
        return False
    if re.match(r"\w+(?:ed|neath)$", low[0]) and low[1:2] and low[1] in words.PREPOSITIONS | words.DETERMINERS:
        return False
    if low[-1] in ("one", "ones") or any(words.past(one) and two == "and" for one, two in pairwise(low)):
        return False
    after = words.PREPOSITIONS | {"and", "or", "than", "both", "all", "half"}
    if any(two in words.DETERMINERS - words.NUMBERS and one.rstrip(",") not in after for one, two in pairwise(low)):
        return False
    if low[-1].endswith("ly") or any(mark in part for part in parts for mark in "—–:("):
        return False
    return not (len(parts) > 1 and low[0] in words.ORDERS and low[1] in words.DETERMINERS)


_PERSONS = frozenset(
    "member guest visitor student user reader customer employee volunteer driver owner parent child children adult patient doctor"
    " nurse manager director teacher tenant applicant player worker citizen resident passenger participant"
    " gardener steward trainer"
    " trainee apprentice person people someone everyone everybody anyone staff man men woman women client candidate supervisor"
    " holder buyer seller subscriber speaker author scientist artist officer soldier leader president minister king queen mother"
    " father caretaker treasurer librarian helper carer pupil researcher engineer analyst contractor supplier"
    " family families".split()
)


def is_personal(noun: str) -> bool:
    """Whether a noun is of people: `members`, `visitor`, `staff`."""
    return noun in _PERSONS or noun.removesuffix("s") in _PERSONS
