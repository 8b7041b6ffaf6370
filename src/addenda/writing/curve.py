"""The online curve: what each stretch of a text cost when it was read, in bins whose number does not grow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: bins kept at most; when there are more, neighbours are joined
BINS = 512


@dataclass
class Curve:
    """Nats and tokens by position: `bins` of [tokens, nats with the memory, nats of the bare base].

    A bin covers `width` chunks; when `BINS` are full, neighbours are joined and the width doubles.
    """

    width: int = 1
    chunks: int = 0
    bins: list[list[float]] = field(default_factory=list[list[float]])

    def add(self, tokens: int, nats: float, bare: float) -> None:
        """Add the next chunk."""
        if self.chunks % self.width == 0:
            if len(self.bins) == BINS:
                pairs = zip(self.bins[::2], self.bins[1::2], strict=True)
                self.bins = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
                self.width *= 2
            self.bins.append([0, 0.0, 0.0])
        last = self.bins[-1]
        self.chunks += 1
        for at, value in enumerate((tokens, nats, bare)):
            last[at] += value

    def totals(self) -> tuple[float, float, float]:
        """Tokens, nats with the memory and nats of the bare base, of the whole text."""
        tokens, nats, bare = (sum(column) for column in zip(*self.bins, strict=True)) if self.bins else (0, 0.0, 0.0)
        return tokens, nats, bare

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Nats per token, with the memory and of the bare base, over the bins that end after share `start`, to `end`."""
        whole, at = self.totals()[0], 0.0
        sums = [0.0, 0.0, 0.0]
        for part in self.bins:
            at += part[0]
            if start * whole < at <= end * whole:
                sums = [a + b for a, b in zip(sums, part, strict=True)]
        tokens = max(1.0, sums[0])
        return sums[1] / tokens, sums[2] / tokens

    def points(self, bare: bool) -> list[dict[str, float]]:
        """Each bin's end, in tokens read, with its nats per token."""
        points, at = [], 0.0
        for tokens, nats, base in self.bins:
            at += tokens
            points.append({"tokens": at, "nats": nats / tokens} | ({"bare": base / tokens} if bare else {}))
        return points

    def plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"width": self.width, "chunks": self.chunks, "bins": self.bins}
