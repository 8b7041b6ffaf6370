"""Turns: where, in token ids, the user begins to speak, as the base's chat template writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.text.prompting import bare_ids, templated

#: by which name the last ids of a call travel with the batch
SAID = "the last ids"
#: what is said to see how a template writes it: by the user, by the assistant, by the user
_CHAT = tuple(zip(("user", "assistant", "user"), ("Alpha?", "Beta.", "Gamma?"), strict=True))


def turn_mark(tokenizer: Any) -> tuple[int, ...]:
    """The shortest run of token ids that stands where the user begins to speak and not where the assistant does.

    One of them is a special token, which no text can imitate; for ChatML it is `<|im_start|>`, `user`. Empty where there is no
    chat template, or it has no such run: turns are then not told apart.
    """
    try:
        ids, text = templated(tokenizer, [{"role": role, "content": said} for role, said in _CHAT])
    except AddendaError:
        return ()
    (_, first), (_, answer), (_, then) = _CHAT
    ours, theirs = (bare_ids(tokenizer, _between(text, *pair)) for pair in ((answer, then), (first, answer)))
    special, others = set(tokenizer.all_special_ids), set(_runs(theirs))
    found = [run for run in _runs(ours) if special & set(run) and run not in others]
    mark = min(found, key=len, default=())
    return mark if mark in _runs(ids) else ()


def begun(ids: Tensor, mark: Sequence[int], before: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Where in token ids [B, T] a run of ids ends [B, T], and the last ids [B, n - 1], which the next call is to be told.

    `before` [B, n - 1] is what the call before returned; None at the beginning of a text. (An id of -1 stands for none.)
    """
    short = len(mark) - 1
    if before is None:
        before = ids.new_full((len(ids), short), -1)
    whole = torch.cat([before.to(ids), ids], 1)
    found = torch.ones_like(ids, dtype=torch.bool)
    for place, token in enumerate(mark):
        found &= whole[:, place : place + ids.shape[1]] == token
    return found, whole[:, whole.shape[1] - short :]


def last_turn(ids: Tensor, mark: Sequence[int]) -> Tensor:
    """The place [B] in token ids [B, T] where the last run of ids ends: there the user has begun to speak for the last time."""
    found, _ = begun(ids, mark)
    return torch.where(found, torch.arange(ids.shape[1], device=ids.device), 0).amax(1)


def heard(ends: Tensor, batch: int, length: int, start: int | Tensor) -> Tensor:
    """Which of the tokens [B, T] of a call were said before the last turn, whose beginnings are `ends` [B / n] in the prompts.

    Prompts may be read by several rows each; `start` tokens of them were read by earlier calls.
    """
    places = start + torch.arange(length, device=ends.device)
    return places < ends.repeat_interleave(batch // len(ends))[:, None]


def _between(text: str, first: str, then: str) -> str:
    start = text.index(first) + len(first)
    return text[start : text.index(then, start)]


def _runs(ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All runs of ids, the short ones first."""
    for length in range(1, len(ids) + 1):
        yield from (tuple(ids[at : at + length]) for at in range(len(ids) - length + 1))
