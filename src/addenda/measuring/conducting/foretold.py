"""Foretold: what an evaluation will read, and about how long that takes, for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from addenda.measuring.asking.chats import TOKENS as WRITTEN
from addenda.measuring.conducting.inputs import Inputs
from addenda.measuring.looking.disturbance import TOKENS as ON_NEUTRALITY
from addenda.measuring.looking.spectrum import TOKENS as OF_SPECTRUM
from addenda.plug.scoring import pace_of
from addenda.telling.progress import about
from addenda.text.texts import Texts
from addenda.tiny.asked import EACH, SETS

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: records of a text whose length stands for all others' where they are many
RECORDS = 500
#: characters of a token, where nothing is tokenized to find out; tokens of a question with one of its answers
CHARACTERS, QUESTION = 4, 60
#: tokens of a chat that its template adds; what a token that is compared or written costs beside one that is scored
TURN, COMPARED = 20, 1.5


def foretold(
    base: Base,
    given: Inputs,
    weights: Mapping[str, float],
    tasks: Sequence[str],
    limit: int | None,
    tokens: int | None,
    questions: bool = False,
) -> tuple[int, str]:
    """About how many tokens will be read, modules off and on counted, and the plan in words.

    Args:
        base: the base.
        given: what was opened.
        weights: the modules that act.
        tasks: question sets that are asked.
        limit: questions of each set.
        tokens: scored of each text.
        questions: whether those that come with the package are asked.
    """
    times = 2 if weights else 1
    words: list[str] = []
    total, cost = 0, 0.0

    def add(what: str, read: int, each: float = 1.0) -> None:
        nonlocal total, cost
        total, cost = total + read, cost + each * read
        words.append(f"{what} (about {_round(read):,} tokens)")

    for name, source in given.texts.items():
        add(name, times * min(_length(source, tokens), tokens or 2**62))
    if tasks:
        add(", ".join(tasks), times * _asked(tasks, limit))
    if given.facts is not None:
        told = given.facts.told[:limit]
        each = [
            len(fact.answer) + sum(map(len, fact.others)) + len(fact.prompt) * (1 + len(fact.others)) for fact in told
        ]
        add("facts", times * sum(each) // CHARACTERS)
    if given.snapshot is not None and given.facts is not None:
        add("facts in three settings", 8 * QUESTION * len(given.facts.told[:limit]))
    if given.edits is not None:
        add("edits", 3 * times * QUESTION * len(given.edits))
    for source in given.neutrality:
        add(f"neutrality on {source.name}", 2 * min(_length(source, tokens), tokens or ON_NEUTRALITY), COMPARED)
    if given.chats is not None:
        name, asked = given.chats
        said = sum(len(message["content"]) for messages in asked for message in messages) // CHARACTERS
        add(name, 2 * (said + (TURN + WRITTEN) * len(asked)), COMPARED)
    if questions:
        add("questions", times * 2 * QUESTION * len(SETS) * min(limit or EACH, EACH))
    if given.spectrum is not None:
        add("spectrum", OF_SPECTRUM * len(weights))
    pace = pace_of(base)
    both = "with modules off and on" if weights else "of the base alone"
    return total, (
        f"evaluating {', '.join(words)}, {both}: about {about(cost / pace)} at {pace:,.0f} tokens/s, as timed on this machine "
        "just now"
    )


def _length(source: Texts, most: int | None) -> int:
    """About how many tokens a text has, from its first records where it has many."""
    characters = read = 0
    for record in islice(source, RECORDS):
        characters += len(record["text"]) if "text" in record else len(str(record))
        read += 1
        if most is not None and characters > CHARACTERS * most:
            break
    count = None if read < RECORDS else source.count()
    return max(1, characters // CHARACTERS * (1 if count is None else count // read))


def _asked(tasks: Sequence[str], limit: int | None) -> int:
    from addenda.measuring.asking.tasks import tasks_named

    chosen: Any = tasks_named(list(tasks))
    return sum(
        round(min(limit or task.questions, task.questions) * QUESTION / max(0.1, task.chance)) for task in chosen
    )


def _round(value: int) -> int:
    """To two digits."""
    digits = max(0, len(str(value)) - 2)
    return round(value / 10**digits) * 10**digits
