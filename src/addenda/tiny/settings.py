"""What a training run of the embedded base is made of, and its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Settings:
    """What a run is made of; kept in its checkpoint, and only `tokens` may change on the way."""

    tokens: int = 40_000_000
    variant: str = "glu"
    seed: int = 0
    batch: int = 16_384  # tokens of one optimizer step
    micro: int = 2_048  # tokens that go through the network at a time
    short: int = 512  # sequence length of most of the run
    long: int = 2_048  # and of its last tenth
    long_share: float = 0.1
    warmup: int = 600_000  # tokens
    decay_share: float = 0.25
    lr_matrix: float = 3e-3
    lr_other: float = 2e-3
    half: bool = True  # bfloat16 forward and backward over float32 masters
    compile: bool = True
    config: dict[str, Any] | None = None  # changes to the variant's sizes, for tests
    vocab_size: int = 8192


def rate(seen: int, settings: Settings) -> float:
    """Warm-up, stable, decay: the share of the full learning rate after `seen` tokens."""
    if seen < settings.warmup:
        return (seen + settings.batch) / (settings.warmup + settings.batch)
    left = (settings.tokens - seen) / (settings.decay_share * settings.tokens)
    return min(1.0, max(left, 0.0))
