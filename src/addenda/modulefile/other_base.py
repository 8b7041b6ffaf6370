"""A module for another base than the one at hand: in what the two differ, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from addenda.core.card import BaseRecord
from addenda.core.files import shown

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
