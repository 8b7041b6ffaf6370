"""The sweep of a method's learning rate by successive halving: what is tried on how many tokens, and what is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from addenda.comparing.methods import Method
from addenda.comparing.settings import CompareSettings
from addenda.comparing.work import cost_of

if TYPE_CHECKING:
    from addenda.comparing.work import Work


@dataclass(frozen=True)
class Sweep:
    """What was tried: the loss of each rate at its last rung, nats per token, infinite where it failed; the chosen `rate`.

    `rate` is None where nothing is trained, and where every rate failed: then `failed` has the tested rate's reason.
    """

    rate: float | None
    tried: dict[float, float]
    failed: str | None = None

    @property
    def edge(self) -> str | None:
        """Whether the chosen rate is the "lowest" or the "highest" tried: then one beyond it may do better."""
        if self.rate is None or len(self.tried) < 2:
            return None
        return {min(self.tried): "lowest", max(self.tried): "highest"}.get(self.rate)


def swept(work: Work, method: Method, settings: CompareSettings) -> Sweep:
    """Find the rate whose loss on the choosing half is least; the tested one where no other is tried."""
    rates = list(method.sweep(settings.rates))
    if len(rates) < 2:
        return Sweep(rates[0] if rates else None, {})
    seen: dict[float, float] = {}
    reasons: dict[float, str] = {}
    for tokens, _ in rungs(settings, len(rates)):
        for rate in rates:
            record = work.record(method, rate, tokens, settings.seeds[0], final=False)
            seen[rate] = record["choosing"] if math.isfinite(record["choosing"]) else math.inf
            if "failed" in record:
                reasons[rate] = record["failed"]
        half = max(1, len(rates) // 2)
        rates = sorted((rate for rate in rates if seen[rate] < math.inf), key=lambda rate: seen[rate])[:half]
        if len(rates) < 2:
            break
    if not rates:
        first = next(iter(seen))
        return Sweep(
            None, seen, f"at every rate that was tried; at {first:.3g}: {reasons.get(first, 'its loss is not finite')}"
        )
    return Sweep(rates[0], seen)


def rungs(settings: CompareSettings, rates: int) -> Iterator[tuple[int, int]]:
    """Tokens, and how many rates are tried on them, of each rung of a sweep of so many rates: one rung for two or three."""
    tokens = max(settings.batch_rows * settings.length, round(settings.tokens * settings.rung))
    while rates > 1:
        yield tokens, rates
        rates, tokens = max(1, rates // 2), min(settings.tokens, 2 * tokens)


def planned(methods: Sequence[Method], settings: CompareSettings) -> int:
    """Tokens that all runs train on and score, those that have a record included."""
    total = cost_of(0, settings, final=True)  # the bare base, once more
    for method in methods:
        seeds = len(settings.seeds) if method.rates else 1
        total += seeds * cost_of(settings.tokens if method.rates else 0, settings, final=True)
        for tokens, count in rungs(settings, len(method.sweep(settings.rates))):
            total += count * cost_of(tokens, settings, final=False)
    return total
