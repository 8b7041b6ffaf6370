"""Leakage: general chats, also after a question about the documents, whose answers change or speak the documents' words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from addenda.core.plain import Plain
from addenda.measuring.asking.asked import Asked
from addenda.measuring.asking.chats import GENERAL, TOKENS, Messages, OnChats, on_chats
from addenda.measuring.asking.chats import asked_of as chats_of
from addenda.measuring.asking.options import normalised
from addenda.plug.selection import Names
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: a word that general text has more often than once in so many is not the documents' own
RARE = 20_000
#: letters of the shortest word that counts
LETTERS = 3


@dataclass(frozen=True)
class Leakage(Plain):
    """General chats asked `first`, and as a second turn `after` a question about the documents and its answer.

    `words` is the share of chats whose answer, asked first, has a word of the documents that the bare base's has not;
    `words_after` the same as a second turn. Such a word stands in the questions or their answers, and hardly in general text.
    """

    first: OnChats
    after: OnChats
    words: Interval
    words_after: Interval
    leaked: tuple[str, ...]


def leakage(
    base: Base, asked: Sequence[Asked], modules: Names, *, limit: int | None = None, tokens: int = TOKENS
) -> Leakage:
    """Let the base answer general chats with modules off and on, and count the answers that change or speak the documents' words.

    Both times the same chats in the same batches, so that a module that is silent there changes nothing.

    Args:
        base: with the modules plugged; its own selection is put back after.
        asked: questions about the documents.
        modules: what acts.
        limit: so many chats; default: all 60.
        tokens: written at most in each answer.
    """
    name, chats = chats_of(GENERAL, limit)
    told = [one for one in asked if one.accepted]
    turns: list[Messages] = [
        [*map(dict, told[at % len(told)].messages), _answer(told[at % len(told)]), *chat]
        for at, chat in enumerate(chats)
    ] if told else []  # fmt: skip
    first = on_chats(base, modules, name, chats, tokens=tokens)
    after = on_chats(base, modules, f"{name}, second turns", turns or chats, tokens=tokens)
    own = own_words(asked)
    spoken, spoken_after = ([_spoken(own, one.off, one.on) for one in found.answers] for found in (first, after))
    return Leakage(
        first=first,
        after=after,
        words=of_mean([bool(words) for words in spoken], within=SHARE),
        words_after=of_mean([bool(words) for words in spoken_after], within=SHARE),
        leaked=tuple(dict.fromkeys(word for words in [*spoken, *spoken_after] for word in words)),
    )


def _answer(one: Asked) -> dict[str, str]:
    return {"role": "assistant", "content": one.accepted[0]}


def own_words(asked: Sequence[Asked]) -> frozenset[str]:
    """The words of questions and answers that general text, the sample that comes with the package, hardly has."""
    counted = Counter(word for record in texts("general_train") for word in normalised(record["text"]))
    often = counted.total() / RARE
    said = (text for one in asked for text in (*(m["content"] for m in one.messages), *one.accepted))
    return frozenset(word for text in said for word in _words(normalised(text)) if counted[word] < often)


def _words(words: Iterable[str]) -> Iterable[str]:
    return (word for word in words if len(word) >= LETTERS)


def _spoken(own: frozenset[str], off: str, on: str) -> list[str]:
    """The documents' words in an answer that the bare base's has not."""
    before = set(normalised(off))
    return [word for word in normalised(on) if word in own and word not in before]
