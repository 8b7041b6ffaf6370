"""Validation during training: what a module has learned and what it costs elsewhere, against the bare base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from addenda.core.card import Measure
from addenda.core.errors import DataError
from addenda.objectives.head import Head
from addenda.plug.scoring import Score, encoded_documents, score
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts

if TYPE_CHECKING:
    from addenda.plug.base import Base
    from addenda.writing.settings import Settings


def is_forgetting(name: str) -> bool:
    """Whether a validation text reports forgetting (its name begins so) rather than learning."""
    return name.startswith("forgetting")


def opened(base: Base, sources: Mapping[str, Any]) -> dict[str, Texts]:
    """Validation texts by name, each with something to score: it would be missed after the first steps else.

    Raises:
        DataError: one cannot be read, or holds nothing; says which.
    """
    found: dict[str, Texts] = {}
    encoder = Encoder(base.tokenizer, base.vocabulary)
    for name, source in sources.items():
        try:
            found[name] = texts(source)
            if next(encoded_documents(encoder, found[name], 1), None) is None:
                raise DataError(f"'{found[name].name}' holds no token to score")
        except DataError as error:
            raise DataError(f"validation '{name}': {error}") from None
    return found


def told(name: str, change: Mapping[str, Any]) -> str:
    """What was learned or forgotten on a validation text, in short: "med: learned +0.232"."""
    return f"{label(name)}: {word(name)} {change['value']:+.3f}"


def word(name: str) -> str:
    """What a validation text's change is: learned, or forgot."""
    return "forgot" if is_forgetting(name) else "learned"


def label(name: str) -> str:
    """A validation text's own name, without what says that it reports forgetting."""
    return name.removeprefix("forgetting").lstrip("-_: ") or name


class Validation:
    """Held-out losses of modules, each alone, paired with the bare base's on the same documents.

    Learning is the loss taken off, forgetting the loss added, in nats per token: more learning is better, less
    forgetting is. Also the early stop: `best` is the best mean learning of any validation (mean loss taken off over
    the learning texts), `waited` how many validations have passed since.
    """

    def __init__(self, base: Base, sources: Mapping[str, Texts], settings: Settings, length: int, head: Head) -> None:
        self.base, self.sources, self.head = base, sources, head
        self.tokens = settings.validation_tokens
        self.options: dict[str, Any] = {"length": length, "tokens": self.tokens, "precision": settings.precision}
        self.bare: dict[str, Score] = {}
        self.best: float | None = None
        self.waited = 0

    def __bool__(self) -> bool:
        return bool(self.sources)

    def size(self, modules: int) -> int | None:
        """Tokens that a validation of so many modules scores, at most; None where that is not known yet."""
        if self.bare:
            return modules * sum(score.tokens for score in self.bare.values())
        return (modules + 1) * len(self.sources) * self.tokens if isinstance(self.tokens, int) else None

    def run(self, names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """Changes by module and text: `{"value", "low", "high", "loss", "documents"}`, in nats per token."""
        changes: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
        for on, source in self.sources.items():
            if on not in self.bare:
                with self.base.off():
                    self.bare[on] = self._score(on, source)
            for name in names:
                with self.base.using({name: 1.0}):
                    now = self._score(on, source)
                change = now.minus(self.bare[on]) if is_forgetting(on) else self.bare[on].minus(now)
                changes[name][on] = {
                    "value": change.nats,
                    "low": change.low,
                    "high": change.high,
                    "loss": now.nats,
                    "documents": change.documents,
                }
        return changes

    def _score(self, on: str, source: Texts) -> Score:
        try:
            return score(self.base, source, head=self.head, **self.options)
        except DataError as error:
            raise DataError(f"validation '{on}': {error}") from None

    def improved(self, changes: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> bool:
        """Whether this validation is the best so far; counts those that are not."""
        gains = [change["value"] for texts in changes.values() for on, change in texts.items() if not is_forgetting(on)]
        costs = [change["value"] for texts in changes.values() for on, change in texts.items() if is_forgetting(on)]
        value = sum(gains) / len(gains) if gains else -sum(costs) / len(costs)
        if self.best is None or value > self.best:
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    def measures(self, changes: Mapping[str, Mapping[str, Any]]) -> list[Measure]:
        """One module's changes as a card keeps them."""
        measures: list[Measure] = []
        for on, change in changes.items():
            name = "forgetting" if is_forgetting(on) else "learning"
            value, low, high = change["value"], change["low"], change["high"]
            measures.append(Measure.over(change["documents"], name, value, low, high, on=self.sources[on].name))
        return measures
