"""Prompts drawn from a text: stretches of running text and what users say first, in two halves of different documents."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch import Tensor

from addenda.core.errors import DataError
from addenda.telling.changes import counted
from addenda.text.texts import Texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of the stretches, drawn alike often: prompts are short
LENGTHS = (8, 16, 32, 64)
#: characters that surely hold a token more than so many, and fewest that a stretch is cut from
PER_TOKEN, STRETCH = 8, 48
#: records looked at in a text, and in one that has no known end
RECORDS, STREAMED = 20_000, 2_000
#: prompts that each half has at least, and documents that longer ones are halved to
LEAST, DOCUMENTS = 8, 16
#: characters that are kept of a document
KEPT = 50_000


def drawn(base: Base, source: Texts, count: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Up to `count` prompts of a text as token ids [T], in two halves that share no document.

    A record with a prompt or messages gives what the user says first, whole. Running text gives stretches that begin
    anywhere, opened as prompts are; of few long documents the halves of the halves count as documents.

    Raises:
        DataError: the text cannot be read, or holds too little.
    """
    random_ = random.Random(seed)
    documents = _documents(source, count, random_)
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, (document, whole) in enumerate(documents):
        wanted = -(-count // len(documents))
        for _ in range(1 if whole else min(wanted, 1 + len(document) // STRETCH)):
            ids = base.tokenize(document) if whole else _stretch(base, document, random_)
            halves[number % 2].append(ids if base.context is None else ids[-base.context :])
    if min(map(len, halves)) < LEAST:
        raise DataError(
            f"'{source.name}' gives {counted(sum(map(len, halves)), 'prompt')}, and {2 * LEAST} are needed to learn from; "
            "give more text"
        )
    for half in halves:
        random_.shuffle(half)
    return halves[0][: -(-count // 2)], halves[1][: count // 2]


def _stretch(base: Base, document: str, random_: random.Random) -> Tensor:
    """The ids of a stretch of a document, from the beginning of a word on."""
    tokens = random_.choice(LENGTHS)
    start = random_.randrange(max(1, len(document) - tokens * PER_TOKEN // 2))
    space = document.find(" ", start, start + STRETCH)  # some scripts have none
    start = start if start == 0 or space < 0 else space + 1
    return base.tokenize(document[start : start + tokens * PER_TOKEN].strip() or document[:STRETCH])[: tokens + 1]


def _documents(source: Texts, count: int, random_: random.Random) -> list[tuple[str, bool]]:
    """Up to `count` documents, drawn evenly from the text, and whether each is a prompt as it stands."""
    found: list[tuple[str, bool]] = []
    for number, record in enumerate(islice(source, STREAMED if source.endless else RECORDS)):
        at = number if number < count else random_.randrange(number + 1)
        if at >= count:
            continue
        text, whole = _said(record)
        text = text.strip()
        if not whole and len(text) > KEPT:
            start = random_.randrange(len(text) - KEPT)
            text = text[start : start + KEPT].strip()
        found[at : at + 1] = [(text, whole)] if text else []
    while 0 < len(found) < DOCUMENTS and all(not whole and len(text) >= 2 * STRETCH for text, whole in found):
        found = [(part, False) for text, _ in found for part in _halved(text)]
    random_.shuffle(found)
    return found


def _halved(text: str) -> list[str]:
    """Both halves of a text, but for blank ones."""
    halves = (text[: len(text) // 2].strip(), text[len(text) // 2 :].strip())
    return [half for half in halves if half]


def _said(record: Mapping[str, Any]) -> tuple[str, bool]:
    """A record's text, or what its user says first and True."""
    if "text" in record:
        return record["text"], False
    said = record["messages"] if "messages" in record else record["prompt"]
    if not isinstance(said, str):
        said = next((turn["content"] for turn in said if turn["role"] == "user"), "")
    return said, True
