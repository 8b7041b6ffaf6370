"""Records of a small hotel, each with what its teacher reads first."""

from __future__ import annotations

from typing import Any

import addenda
from pico import pico, pico_tokenizer

GENERAL = [f"A river runs in the town {n} and on to the sea; {n % 5} boats! " * 4 for n in range(20)]


def records(count: int = 24) -> list[dict[str, Any]]:
    """Two questions on each room, whose price is in what the teacher reads."""
    made: list[dict[str, Any]] = []
    for n in range(count):
        room = n // 2
        told = f"The price of room {room} is {room * 7 % 50} coins, and there is a bath in it. " * 2
        asked = f"What does room {room} cost?" if n % 2 else f"Is there a bath in room {room}? Tell me."
        said = f"It is {room * 7 % 50} coins." if n % 2 else "There is one."
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        made.append({"messages": messages, "reads": told})
    return made


def make(**overrides: Any) -> addenda.Base:
    """A pico base whose context has room for them, with a small module."""
    overrides = {"num_hidden_layers": 2, "max_position_embeddings": 512} | overrides
    base = addenda.attach(pico("llama", **overrides), pico_tokenizer())
    base.new("a", addenda.LoRA(rank=2))
    return base


#: 12 steps of 4 rows of 48 tokens, a quarter of them replay
RUN: dict[str, Any] = {
    "corpus": records(),
    "replay": GENERAL,
    "replay_share": 0.25,
    "tokens": 12 * 4 * 48,
    "length": 48,
    "batch_rows": 4,
    "shuffle_tokens": 512,
    "lr": 1e-2,
    "log": False,
    "objective": "distill",
}
