"""A module on a base that is not its own: what it does there to the loss on a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addenda.core.module import plugged
from addenda.core.plain import Plain
from addenda.plug.frozen import Frozen
from addenda.plug.scoring import score
from addenda.text.texts import exists


@dataclass(frozen=True)
class PlugCost(Plain):
    """What a module does to the loss on a text, on the base at hand: nats per token, with the 95% interval of the change.

    `change` below zero: it helps here too. `bare` and `plugged` are the loss without it and with it alone.
    """

    module: str
    on: str
    tokens: int
    bare: float
    plugged: float
    change: float
    low: float
    high: float

    def __str__(self) -> str:
        interval = f" (95% interval {self.low:+.4f} to {self.high:+.4f})" if self.low < self.high else ""
        return (
            f"on {self.on}, {self.tokens:,} tokens: {self.plugged:.4f} nats per token with '{self.module}' on this base, "
            f"{self.bare:.4f} without: {self.change:+.4f}{interval}"
        )


def plug_cost(base: Frozen, name: str, text: Any, *, tokens: int | None = 20_000) -> PlugCost:
    """Measure what a plugged module does on a text, on this base: with it alone against without any module.

    On another base than its own this is what its promise is worth: compare the change with that on its own base (in its
    card, or measured there by the same call).

    Args:
        base: with the module plugged.
        name: the module's.
        text: the text itself (a string with a space in it), or whatever `addenda.perplexity` reads.
        tokens: measured at most.

    Raises:
        AddendaError: no such module is plugged, or the base has no tokenizer.
        DataError: the text cannot be read, or is empty.
    """
    plugged(base.modules, name)
    itself = isinstance(text, str) and any(letter.isspace() for letter in text) and not exists(Path(text))
    source = [text] if itself else text
    with base.off():
        bare = score(base, source, tokens=tokens)
    with base.using({name: 1.0}):
        on = score(base, source, tokens=tokens)
    apart = on.minus(bare)
    called = "the text" if itself else on.on
    return PlugCost(name, called, on.tokens, bare.nats, on.nats, apart.nats, apart.low, apart.high)
