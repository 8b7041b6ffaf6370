"""What all sections of a benchmark share: its options, the record of each comparison, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import live
from benchmarks.timing import QUIET, Others, Ratio, Step, compare


@dataclass
class Bench:
    """What all sections of one model share: options, the record of results, and the noise floor of each step."""

    model: str
    dtype: torch.dtype
    pairs: int
    length: int
    clock: str
    chosen: list[str] | None
    shares: dict[str, live.Shares]
    done: Callable[[dict[str, Any]], None]
    steps: list[str] | None = None
    noise: dict[str, Ratio] = field(default_factory=dict)

    def wanted(self, kind: str) -> bool:
        """Whether a kind was asked for."""
        return self.chosen is None or kind in self.chosen

    def pair(self, section: str, step: str, a: Step, b: Step, target: float | None = None, /, **labels: Any) -> None:
        """Compare, record and judge one pair of steps, if asked for. `target` is the largest ratio allowed."""
        if self.steps is not None and step.split(",")[0] not in self.steps:
            return
        others = Others()
        ratio = compare(a, b, self.pairs, self.clock)
        if section == "noise":
            self.noise[step] = ratio
        noise = self.noise.get(step)
        record = {
            "model": self.model,
            "dtype": str(self.dtype).removeprefix("torch."),
            "section": section,
            "step": step,
        }
        record |= labels | ratio.plain() | {"others": others.cores(), "target": target}
        record["noise"] = None if noise is None else [round(noise.low, 4), round(noise.high, 4)]
        record["verdict"] = verdict(section, ratio, noise, target, record["others"])
        self.done(record)


def verdict(
    section: str, ratio: Ratio, noise: Ratio | None, target: float | None, others: float | None = None
) -> str | None:
    """`held`, `missed`, `open` where the interval reaches over the target, `disturbed` where other processes took part.

    Being off is held to a stricter rule: the upper bound may be over the noise's own upper bound by the target alone.
    """
    if target is None:
        return None
    if others is not None and others > QUIET:
        return "disturbed"
    if section == "off":
        above = 1.0 if noise is None else max(1.0, noise.high)
        return "held" if ratio.high <= above + target - 1.0 else "missed" if ratio.low > target else "open"
    return "held" if ratio.high <= target else "missed" if ratio.low > target else "open"
