"""Changed answers: general chats answered greedily with modules off and on, and how many answers are not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.errors import AddendaError, DataError
from addenda.core.plain import Plain
from addenda.plug.continuing import continued
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.text.prompting import templated
from addenda.text.texts import texts
from addenda.tiny.asked import chats as shipped

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: the chats that come with the package
GENERAL = "general"
#: tokens written at most, and those of them that a change counts as early in
TOKENS, EARLY = 32, 16
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """One chat: what was said last, what the bare base and the modules answer, and at which token they part; None: nowhere."""

    said: str
    off: str
    on: str
    parts_at: int | None


@dataclass(frozen=True)
class OnChats(Plain):
    """Answers to chats, of at most `tokens` tokens, with modules off and on.

    `changed` is the share of answers that are not the same, token by token; `early` the share that part within the first
    sixteen tokens. A share of 0 is a base that nothing happened to; intervals are over chats. `answers` has them all.
    """

    on: str
    tokens: int
    changed: Interval
    early: Interval
    answers: tuple[Answer, ...]


def changed_answers(
    base: Base, modules: Names, chats: Any = GENERAL, *, tokens: int = TOKENS, limit: int | None = None
) -> OnChats:
    """Let the base answer chats with modules off and on, greedily, and count the answers that differ.

    A module that acts on its subject alone leaves all of them as they are. Chats ride in padded batches, the same off and on.

    Args:
        base: with the modules plugged; its own selection is put back after.
        modules: what acts.
        chats: `general`, those that come with the package; or whatever `addenda.train` takes as a corpus: of `messages` all up
            to the last that the user says, of `prompt` with `completion` the prompt, a `text` as what the user says.
        tokens: written at most in each answer.
        limit: so many chats; default: all.

    Raises:
        AddendaError: no module is named, the base has no tokenizer, or its chat template refuses a chat.
        DataError: the chats cannot be read, or there is none.
    """
    weights = weights_of(modules)
    if not weights:
        raise AddendaError("name the modules whose changed answers are counted")
    return on_chats(base, weights, *asked_of(chats, limit), tokens=tokens)


def on_chats(base: Base, weights: Names, name: str, chats: Sequence[Messages], *, tokens: int = TOKENS) -> OnChats:
    """As `changed_answers`, of chats that were read."""
    with base.off():
        off = answers(base, chats, tokens=tokens)
    with base.using(weights):
        on = answers(base, chats, tokens=tokens)
    return paired(base, name, chats, off, on, tokens)


def asked_of(source: Any, limit: int | None = None) -> tuple[str, list[Messages]]:
    """What chats are called, and the messages of each, the last of them the user's; see `changed_answers`.

    Raises:
        DataError: they cannot be read, there is none, or one has nothing that the user says.
    """
    if limit is not None and limit < 1:
        raise DataError(f"at least one chat is asked; got a limit of {limit}")
    if isinstance(source, str) and source == GENERAL:
        return f"{GENERAL} chats", [list(chat.messages) for chat in shipped(limit)]
    opened, chosen = texts(source), list[Messages]()
    for number, record in enumerate(opened):
        if limit is not None and number >= limit:
            break
        messages = _messages(record)
        while messages and messages[-1]["role"] != "user":
            messages.pop()
        if not messages:
            raise DataError(f"record {number + 1} of '{opened.name}' has nothing that the user says")
        chosen.append(messages)
    if not chosen:
        raise DataError(f"'{opened.name}' is empty: it holds no chat")
    return opened.name, chosen


def _messages(record: dict[str, Any]) -> Messages:
    if "messages" in record:
        return list(record["messages"])
    said = record["text"] if "text" in record else record["prompt"]
    return [{"role": "user", "content": said}] if isinstance(said, str) else list(said)


def answers(base: Base, chats: Sequence[Messages], *, tokens: int = TOKENS) -> list[list[int]]:
    """The token ids of what the base, as selected, answers to each chat, greedily.

    Raises:
        AddendaError: the base has no tokenizer, or its chat template refuses a chat.
    """
    return continued(base, [prompt_of(base, messages) for messages in chats], tokens=tokens, padded=True)


def prompt_of(base: Base, messages: Messages) -> Tensor:
    """Token ids [T] that ask for the next answer of a chat: by the chat template, else as questions and answers in running text.

    Raises:
        AddendaError: the base has no tokenizer, or its chat template refuses the messages.
    """
    if base.tokenizer is not None and base.tokenizer.chat_template is not None:
        return torch.tensor(templated(base.tokenizer, messages)[0])
    lines = [f"{'Question' if message['role'] == 'user' else 'Answer'}: {message['content']}" for message in messages]
    return base.tokenize("\n".join([*lines, "Answer:"]), raw=True)


def paired(
    base: Base, name: str, chats: Sequence[Messages], off: Sequence[list[int]], on: Sequence[list[int]], tokens: int
) -> OnChats:
    """Two lists of answers to the same chats, compared one by one."""
    places = [parts_at(before, after) for before, after in zip(off, on, strict=True)]
    return OnChats(
        on=name,
        tokens=tokens,
        changed=of_mean([place is not None for place in places], within=SHARE),
        early=of_mean([place is not None and place < EARLY for place in places], within=SHARE),
        answers=tuple(
            Answer(messages[-1]["content"], _text(base, before), _text(base, after), place)
            for messages, before, after, place in zip(chats, off, on, places, strict=True)
        ),
    )


def parts_at(first: Sequence[int], second: Sequence[int]) -> int | None:
    """The first place at which two answers differ, the end of one of them included; None where they are the same."""
    if list(first) == list(second):
        return None
    same = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(same, min(len(first), len(second)))


def _text(base: Base, ids: list[int]) -> str:
    return base.tokenizer.decode(ids, skip_special_tokens=True).strip()
