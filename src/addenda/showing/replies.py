"""Replies: what a base writes after fixed prompts without a module and with each, and whether a module's gate was open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from addenda.measuring.asking.chats import prompt_of
from addenda.measuring.looking.activity import activity
from addenda.plug.selection import Names
from addenda.showing.generating import Sampling, continue_ids

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: drawn with one seed for every column: from the same logits comes the same text
TEMPERATURE, TOP_K, PENALTY = 0.7, 50, 1.1


@dataclass(frozen=True)
class Prompt:
    """A text to go on with, or, with `chat`, to answer in the chat's form; `sort` is what its kind of text is called."""

    sort: str
    text: str
    on_subject: bool
    chat: bool = False


@dataclass(frozen=True)
class Reply:
    """What each column wrote after a prompt; the first is the base's.

    `live` is the share of the tokens behind the written ones on which a module's gate was open; None of one without a gate.
    """

    sort: str
    prompt: str
    on_subject: bool
    texts: dict[str, str]
    live: dict[str, float | None]

    def same(self, column: str) -> bool:
        """Whether a column wrote what the base wrote, word for word."""
        return self.texts[column] == next(iter(self.texts.values()))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        same = {column: self.same(column) for column in self.texts}
        return {"sort": self.sort, "prompt": self.prompt, "texts": self.texts, "live": self.live, "same": same}


def replies(
    base: Base, prompts: Sequence[Prompt], columns: Mapping[str, str | None], *, tokens: int, seed: int
) -> Iterator[Reply]:
    """Let the base go on with each prompt, column by column; of each what was written, and where the module's gate was open.

    Args:
        base: with the modules plugged.
        prompts: at least one.
        columns: a module's name by the column's, None for the bare base, which comes first.
        tokens: written at most after each prompt.
        seed: of the draws, the same for all.
    """
    sampling = Sampling(max_tokens=tokens, temperature=TEMPERATURE, top_k=TOP_K, repetition_penalty=PENALTY, seed=seed)
    for prompt in prompts:
        ids = prompt_of(base, [{"role": "user", "content": prompt.text}]) if prompt.chat else base.tokenize(prompt.text)
        texts, live = dict[str, str](), dict[str, float | None]()
        for column, name in columns.items():
            selected: Names = {} if name is None else {name: 1.0}
            with base.using(selected):
                written = continue_ids(base, ids, prompt.text, sampling)
            texts[column] = written.text
            if name is not None:
                live[column] = _live(base, name, ids, written.ids)
        yield Reply(prompt.sort, prompt.text, prompt.on_subject, texts, live)


def opened(base: Base, name: str, prompts: Sequence[str]) -> tuple[int, int]:
    """Of how many prompts, of all, a module's gate is open by the last token."""
    seen = [activity(base, name, prompt).values[:, -1] for prompt in prompts]
    return sum(bool((values > 0).any()) for values in seen), len(seen)


def _live(base: Base, name: str, ids: torch.Tensor, written: Sequence[int]) -> float | None:
    """The share of tokens at which a module acted, from the prompt's last to the last but one of what was written."""
    seen = activity(base, name, torch.cat([ids, torch.tensor(written, dtype=torch.long)]))
    if seen.measured != "gate":
        return None
    last = len(ids) - 1
    behind = seen.values[:, last : max(len(ids), last + len(written))]
    return float((behind > 0).max(0).mean())
