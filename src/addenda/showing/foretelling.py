"""Foretelling: what a demo is about to do on this machine, and how long that will take, from a few seconds' rehearsal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from addenda.measuring.asking import chats
from addenda.plug import scoring
from addenda.showing.generating import Sampling, continue_ids
from addenda.writing.budget import SCORED
from addenda.writing.gate_fit import LEAST, MOST

if TYPE_CHECKING:
    from addenda.showing.columns import Measuring

#: tokens read and written on in the rehearsal
READ, WRITTEN = 32, 4
#: how much faster than in float32 a base is trained in bfloat16
FASTER = 1.3
#: share of the base that is read for a gate
BELOW = 0.4
#: characters of a token, roughly; how many times what is held out is read: base, LoRA, module, and off again
CHARACTERS, TIMES = 3.7, 4
#: answers that are written at a time cost so much less
TOGETHER = 4


@dataclass(frozen=True)
class Pace:
    """Tokens a second that a base reads and writes on this machine, alone."""

    reading: float
    writing: float


def pace_of(held: Measuring) -> Pace:
    """The pace of the base that is measured; the first round warms up."""
    base, piece = held.base, next(iter(held.general))["text"]
    ids, writing = base.tokenize(piece)[:READ], 1.0
    with base.off():
        for _ in range(2):
            began = time.perf_counter()
            written = continue_ids(base, ids, piece, Sampling(max_tokens=WRITTEN)).tokens
            writing = max(writing, written / (time.perf_counter() - began))
    return Pace(scoring.pace_of(base), writing)


def stages(held: Measuring, pace: Pace, tokens: int, prompts: int, precision: str) -> Iterator[tuple[str, float]]:
    """What is done, and the seconds that each part takes: two trainings, the measuring, the writing.

    Args:
        held: what is held out.
        pace: of this machine.
        tokens: that each module is trained on.
        prompts: that are written on, in three columns.
        precision: that is trained in.
    """
    size = held.size
    trained = tokens / (pace.reading * SCORED * (FASTER if precision == "bf16" else 1))
    fitted = 2 * max(LEAST, min(MOST, tokens // 2)) * BELOW / pace.reading
    yield f"fit the module's gate, and train the module on {tokens:,} tokens", fitted + trained
    yield f"train a LoRA of equal size on {tokens:,} tokens", trained
    losses = (
        sum(len(record["text"]) for text in (held.subject, held.general) for record in islice(text, 1000)) / CHARACTERS
    )
    asked = (
        sum(len(question.choices) * len(question.prompt) + sum(map(len, question.choices)) for question in held.asked)
        / CHARACTERS
    )
    chatting = 0 if held.chats is None else len(held.chats[1]) * chats.TOKENS / TOGETHER
    reading = TIMES * losses + 4 * min(size.compared, losses) + (TIMES - 1) * asked
    what = "losses, predictions" + (f", {len(held.chats[1])} chats" if held.chats else "")
    what += f", {len(held.asked)} questions" if held.asked else ""
    yield f"measure the base, both, and off again ({what})", reading / pace.reading + 3 * chatting / pace.writing
    yield f"write on from {prompts} prompts, three times", 3 * prompts * size.written / pace.writing
