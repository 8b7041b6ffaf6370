"""Conversation: turns with a base and its modules, through the chat template where the tokenizer has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from addenda.core.call import mark_recalled
from addenda.core.errors import AddendaError
from addenda.showing.generating import continue_ids, sampling_of
from addenda.text.prompting import chats, check_ids, prompt_ids, templated

if TYPE_CHECKING:
    from addenda.plug.base import Base


class Conversation:
    """Turns under the current selection, which may change between them.

    Without a chat template that the model has learned, or with `raw`, the history is running text that the base goes on
    writing; raw=False takes the template in any case. Where the history outgrows the base's context its oldest turns are left
    out; `forgotten` counts them. `settings` are fields of `Sampling`; what is not given is as the model's generation_config
    draws, else the likeliest token.
    """

    def __init__(self, base: Base, system: str | None = None, *, raw: bool | None = None, **settings: Any) -> None:
        if base.tokenizer is None:
            raise AddendaError("a conversation needs a tokenizer: addenda.attach(model, tokenizer)")
        self.base = base
        self.sampling = sampling_of(base, settings)
        self.system, self.raw = system, raw
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0

    @property
    def templated(self) -> bool:
        """Whether turns go through the tokenizer's chat template."""
        return chats(self.base.tokenizer) if self.raw is None else not self.raw

    def reset(self) -> None:
        """Forget every turn."""
        self.messages, self.forgotten = [], 0

    def say(self, text: str, hear: Callable[[str], None] | None = None) -> str:
        """Say something and get the answer; `hear` is called with each piece of it as it comes.

        Raises:
            AddendaError: the turn alone fills the base's context, or the chat template refuses it.
        """
        self.messages.append({"role": "user", "content": text})
        try:
            ids, prompt = self._fitting()
            streamer = None if hear is None else _streamer(self.base.tokenizer, hear)
            answer = continue_ids(self.base, ids, prompt, self.sampling, streamer).text
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": answer})
        return answer

    def _fitting(self) -> tuple[torch.Tensor, str]:
        """Token ids of as many of the last turns as leave room for an answer."""
        most = self.base.context
        room = None if most is None else most - min(self.sampling.max_tokens, most // 2)
        for first in range(0, len(self.messages), 2):
            ids, prompt = self._prompt(self.messages[first:])
            if room is None or len(ids) <= room:
                self.forgotten = first
                row = torch.tensor(ids)
                check_ids(row, self.base.vocabulary)
                return mark_recalled(row, self.base.text_memories()), prompt
        raise AddendaError(f"what you said does not fit the base's context of {most} tokens; say less")

    def _prompt(self, turns: list[dict[str, str]]) -> tuple[list[int], str]:
        turns = [*turns[:-1], turns[-1] | {"content": self.base.with_recalled(turns[-1]["content"])}]
        opening = [] if self.system is None else [{"role": "system", "content": self.system}]
        if self.templated:
            return templated(self.base.tokenizer, [*opening, *turns])
        text = "".join(turn["content"] + ("" if turn["role"] == "user" else "\n") for turn in [*opening, *turns])
        return prompt_ids(self.base.tokenizer, text), text


def _streamer(tokenizer: Any, hear: Callable[[str], None]) -> Any:
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if text:
                hear(text)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
