"""The base as its own teacher: asked greedily with every module off, in batches that an interruption does not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

from addenda.exercises.exercise import Ask
from addenda.measuring.asking.chats import prompt_of
from addenda.plug.continuing import continued
from addenda.remote.answerer import Answerer, Keep, Said
from addenda.telling.progress import tick

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: asks that the base answers at a time; tokens of a batch, prompts and answers
ROWS, BATCH_TOKENS = 16, 8192


class BaseTeacher(Answerer):
    """The bare base itself: greedy, in batches that do not depend on what is known already, so that its answers do not either."""

    def __init__(self, base: Base) -> None:
        self.base, self.name = base, f"{base.name} itself"
        self.identity = {"base": base.fingerprint}

    def answer(self, asks: Sequence[Ask], known: Set[int], keep: Keep) -> None:
        """Batch by batch, all asks of a batch together."""
        prompts = [prompt_of(self.base, list(ask.messages)) for ask in asks]
        for group in self._batches(asks, [len(prompt) for prompt in prompts]):
            if known >= set(group):
                continue
            tokens = asks[group[0]].tokens
            tick()
            with self.base.off():
                said = continued(
                    self.base, [prompts[at] for at in group], tokens=tokens, batch_tokens=2 * BATCH_TOKENS, padded=True
                )
            keep({at: self._said(ids, tokens) for at, ids in zip(group, said, strict=True)})

    def _said(self, ids: Sequence[int], tokens: int) -> Said:
        text = self.base.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Said(text, cut=len(ids) >= tokens)

    def _batches(self, asks: Sequence[Ask], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Asks of as many tokens and like length."""
        group: list[int] = []
        for at in sorted(range(len(asks)), key=lambda at: (asks[at].tokens, lengths[at], at)):
            size = (len(group) + 1) * (lengths[at] + asks[at].tokens)
            if group and (asks[group[0]].tokens != asks[at].tokens or len(group) == ROWS or size > BATCH_TOKENS):
                yield group
                group = []
            group.append(at)
        if group:
            yield group
