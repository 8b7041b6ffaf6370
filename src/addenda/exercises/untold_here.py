"""Untold here: what of the banks the documents do not tell of, and which chunk each of it falls to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b

from addenda.exercises import untold, words
from addenda.exercises.exercise import Chunk
from addenda.exercises.known import Known
from addenda.exercises.untold_asked import ASKED


def topics(all_of: Known) -> list[str]:
    """Things and events of which neither a word nor another word for them stands in the documents."""
    there = untold.THINGS + untold.EVENTS
    return [one for one in there if not all_of.told(one) and not all_of.vocabulary.has(untold.ALIKE.get(one, ""))]


def share(all_of: Known, chunk: Chunk, pool: str) -> list[str]:
    """What of a pool falls to a chunk: all of it to one chunk each, and to the same where other chunks come or go."""
    if ("share", pool) not in all_of.kept:
        there: dict[str, list[str]] = {one.id: [] for one in all_of.chunks}
        for question in dict.fromkeys(_POOLS[pool](all_of)):
            there[max(there, key=lambda name, asked=question: _drawn(f"{asked} {name}"))].append(question)
        all_of.kept["share", pool] = there
    return list(all_of.kept["share", pool][chunk.id])


def _drawn(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def _asked(all_of: Known) -> Iterator[str]:
    for barred, *questions in ASKED:
        if not all_of.vocabulary.has(barred):
            yield from questions


def _about(all_of: Known) -> Iterator[str]:
    for topic in topics(all_of):
        for form in untold.ABOUT + _forms(topic):
            yield form.format(topic, words.a(topic))


def _forms(topic: str) -> tuple[str, ...]:
    """What is asked of a topic of its sort."""
    return next(forms for sort, forms in untold.SORTS if topic in sort)


def _strangers(all_of: Known) -> Iterator[str]:
    """Names of which no part stands in the documents: first names and last ones in all pairs."""
    for first in untold.STRANGERS:
        for last in untold.STRANGERS:
            name = f"{first.split()[0]} {last.split()[1]}"
            if not all_of.told(name):
                yield name


def _described(all_of: Known) -> Iterator[str]:
    """Questions of a name that was made up, for texts that only describe."""
    for name in untold.INVENTED:
        for form in untold.OF_INVENTED if not all_of.told(name) else ():
            yield form.format(name)


_POOLS: dict[str, Callable[[Known], Iterator[str] | list[str]]] = {
    "asked": _asked, "topics": topics, "about": _about, "strangers": _strangers, "described": _described,
}  # fmt: skip
