"""Conversation: turns with a base and its modules, through the chat template where the tokenizer has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from addenda.core.errors import AddendaError
from addenda.showing.generating import continue_ids, sampling_from

if TYPE_CHECKING:
    from addenda.plugging import Base


class Conversation:
    """Turns under the current selection, which may change between them.

    Without a chat template, or with `plain`, the history is running text that the base goes on writing. Where the
    history outgrows the base's context its oldest turns are left out; `forgotten` counts them.
    """

    def __init__(self, base: Base, system: str | None = None, *, plain: bool = False, **settings: Any) -> None:
        if base.tokenizer is None:
            raise AddendaError("a conversation needs a tokenizer: addenda.attach(model, tokenizer)")
        self.base = base
        self.sampling = sampling_from(settings)
        self.system, self.plain = system, plain
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0

    @property
    def templated(self) -> bool:
        """Whether turns go through the tokenizer's chat template."""
        return not self.plain and getattr(self.base.tokenizer, "chat_template", None) is not None

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
            prompt = self._prompt(self.messages[first:])
            ids = torch.tensor(self.base.tokenizer(prompt, add_special_tokens=not self.templated)["input_ids"])
            if room is None or len(ids) <= room:
                self.forgotten = first
                return ids, prompt
        raise AddendaError(f"what you said does not fit the base's context of {most} tokens; say less")

    def _prompt(self, turns: list[dict[str, str]]) -> str:
        opening = [] if self.system is None else [{"role": "system", "content": self.system}]
        if not self.templated:
            return "".join(turn["content"] + ("" if turn["role"] == "user" else "\n") for turn in [*opening, *turns])
        try:
            return self.base.tokenizer.apply_chat_template(
                [*opening, *turns], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            raise AddendaError(f"the chat template refuses the conversation: {error}") from None


def _streamer(tokenizer: Any, hear: Callable[[str], None]) -> Any:
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if text:
                hear(text)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
