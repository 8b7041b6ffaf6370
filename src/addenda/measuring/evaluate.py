"""Evaluation: named text sets scored with modules on and off, the two paired document by document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError
from addenda.measuring.canary import WasOn, was_on
from addenda.scoring import Difference, Score, score
from addenda.selection import Names, weights_of

if TYPE_CHECKING:
    from addenda.plugging import Base


@dataclass(frozen=True)
class OnText:
    """Scores of one text set: the base alone, and with the modules; `difference` is modules minus base, paired."""

    name: str
    off: Score
    on: Score | None
    difference: Difference | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        change = self.difference
        return {
            "name": self.name,
            "off": self.off.as_dict(),
            "on": None if self.on is None else self.on.as_dict(),
            "difference": None if change is None else {"nats": change.nats, "low": change.low, "high": change.high},
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores by text set, for one selection; `canary` is the proof that its modules really ran."""

    base: str
    modules: dict[str, float]
    canary: tuple[WasOn, ...]
    texts: tuple[OnText, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "base": self.base,
            "modules": self.modules,
            "canary": [{"module": one.name, "finding": one.finding, "sites": one.sites} for one in self.canary],
            "texts": [one.as_dict() for one in self.texts],
        }


def evaluate(base: Base, texts: Mapping[str, Any], modules: Names = (), **settings: Any) -> Evaluation:
    """Score named text sets with modules on and off.

    Before anything is scored, a probe checks that every site of every selected module runs with its weight.

    Args:
        base: as `addenda.attach` gives it; its own selection is put back after.
        texts: by name, each as `addenda.train` takes a corpus.
        modules: what acts: names, or a mapping of weights; nothing scores the base alone.
        settings: of `addenda.perplexity`.

    Raises:
        AddendaError: no text is given, a module did not run, or a setting is out of range.
        DataError: a text cannot be read.
    """
    if not texts:
        raise AddendaError("evaluate needs at least one text, by name")
    weights = weights_of(modules)
    canary: list[WasOn] = []
    if weights:
        with base.using(weights):
            canary = was_on(base)
    found = []
    for name, source in texts.items():
        with base.off():
            off = score(base, source, **settings)
        on = difference = None
        if weights:
            with base.using(weights):
                on = score(base, source, **settings)
            difference = on.minus(off)
        found.append(OnText(name, off, on, difference))
    return Evaluation(base.name, weights, tuple(canary), tuple(found))
