"""A module on another base than the one it was made for: in what the two differ, and what that costs on a text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.card import BaseRecord
from addenda.core.errors import AddendaError, known
from addenda.files import shown

if TYPE_CHECKING:
    from addenda.plugging import Base

#: differing fields that one line names
NAMED = 3


@dataclass(frozen=True)
class Difference:
    """In what a base is another one: in words, and whether its shape is (then tensors do not fit either)."""

    words: str
    architecture: bool


def difference(made_for: BaseRecord, here: BaseRecord) -> Difference:
    """What tells the base that a module was made for from the one at hand: fields of the architecture first, then weights."""
    there, ours = _fields(made_for, here), _fields(here, made_for)
    apart = [name for name in there | ours if there.get(name) != ours.get(name)]
    same_body = made_for.body is not None and made_for.body == here.body
    if apart == ["vocab_size"] and same_body:
        return Difference(
            f"it is the same model with embeddings for {ours['vocab_size']:,} tokens, where it had {there['vocab_size']:,}: "
            "add the same tokens and resize, or load the resized model that you saved then",
            True,
        )
    if apart:
        told = "; ".join(
            f"{name} is {_value(ours.get(name))}, and was {_value(there.get(name))}" for name in apart[:NAMED]
        )
        more = f"; and {len(apart) - NAMED} more" if len(apart) > NAMED else ""
        return Difference(f"its architecture is another: {told}{more}", True)
    if same_body:
        return Difference(
            "it is the same model but for its embeddings: rows of added tokens are drawn anew each time they are resized. "
            "Save the resized model once (save_pretrained) and load that, or plug with check='warn'",
            False,
        )
    return Difference(
        "same architecture, other weights: a fine-tuned sibling, or a quantised or dequantised copy, or one in float16. "
        "Load that base; for a copy, in Python, plug with check='warn' (and text=..., to see what it costs)",
        False,
    )


def _fields(record: BaseRecord, other: BaseRecord) -> dict[str, Any]:
    """What two records both tell of the architecture; cards written before 2026-12 tell type and size alone."""
    if record.architecture is not None and other.architecture is not None:
        return {"model_type": record.model_type, **record.architecture}
    return {"model_type": record.model_type, "number of parameters": record.parameters}


def _value(value: Any) -> str:
    return "not set" if value is None else f"{value:,}" if isinstance(value, int) else shown(value)


@dataclass(frozen=True)
class PlugCost:
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

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        interval = f" (95% interval {self.low:+.4f} to {self.high:+.4f})" if self.low < self.high else ""
        return (
            f"on {self.on}, {self.tokens:,} tokens: {self.plugged:.4f} nats per token with '{self.module}' on this base, "
            f"{self.bare:.4f} without: {self.change:+.4f}{interval}"
        )


def plug_cost(base: Base, name: str, text: Any, *, tokens: int | None = 20_000) -> PlugCost:
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
    from addenda.scoring import score  # storage, which reads this file, is to know no model library
    from addenda.texts import exists

    if name not in base.modules:
        raise AddendaError(f"no module '{name}' is plugged; plugged are {known(name, base.modules)}")
    itself = isinstance(text, str) and any(letter.isspace() for letter in text) and not exists(Path(text))
    source = [text] if itself else text
    with base.off():
        bare = score(base, source, tokens=tokens)
    with base.using({name: 1.0}):
        on = score(base, source, tokens=tokens)
    apart = on.minus(bare)
    called = "the text" if itself else on.on
    return PlugCost(name, called, on.tokens, bare.nats, on.nats, apart.nats, apart.low, apart.high)
