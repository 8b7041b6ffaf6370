"""Perplexity: held-out loss of a base, as selected, with its interval and what paired comparisons need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from addenda.plug.scoring import Difference, Score, score

if TYPE_CHECKING:
    from addenda.plug.base import Base

__all__ = ["LOSS", "Difference", "Score", "loss_added", "perplexity"]

#: how the name of a change of loss begins
LOSS = "loss added"


def perplexity(
    base: Base,
    texts: Any,
    *,
    length: int | None = None,
    stride: int | None = None,
    tokens: int | None = None,
    batch_tokens: int = 4096,
    precision: str = "fp32",
) -> Score:
    """Loss of the base with its current selection on held-out texts; `float(score)` is in nats per token.

    Each document is opened by the tokenizer's bos (else eos) and cut into windows; every token is scored once.
    Deterministic: the same call gives the same bits on the same machine.

    Args:
        base: as `addenda.attach` gives it; what is selected in this thread is what is scored.
        texts: whatever `addenda.train` takes as a corpus.
        length: tokens that the model reads at a time; default 512, or the base's context where that is shorter.
        stride: tokens scored in each window, the rest being context for them; default `length`: windows side by side.
        tokens: score this many at most, of the beginnings of as many documents as get four windows of `length` each; of eight
            where they are few (below 1,024 of fewer).
        batch_tokens: tokens in one forward pass.
        precision: "fp32", or "bf16" for autocast.

    Raises:
        DataError: the text cannot be read, or holds no token to score.
        AddendaError: a setting is out of range.
    """
    return score(
        base, texts, length=length, stride=stride, tokens=tokens, batch_tokens=batch_tokens, precision=precision
    )


def loss_added(text: str) -> str:
    """What the change of loss on a text is called in a certificate."""
    return f"{LOSS} on {text}, nats per token"
