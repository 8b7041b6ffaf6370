"""Held-out texts: loss in nats per token, modules off and on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from addenda.core import card
from addenda.core.card import ENOUGH
from addenda.core.errors import DataError
from addenda.measuring.asking.perplexity import LOSS, loss_added
from addenda.measuring.conducting.foretold import length_of
from addenda.measuring.conducting.lines import times
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, option
from addenda.plug.scoring import Difference, Score, score
from addenda.telling.changes import TOO_FEW, counted, interval_of, learned_or_forgot
from addenda.telling.intervals import Interval
from addenda.telling.progress import part
from addenda.text.texts import Texts
from addenda.text.texts import texts as open_texts


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
class HeldOut(Measure):
    """Loss in nats per token of held-out texts, modules off and on, paired document by document."""

    name: ClassVar[str] = "texts"
    place: ClassVar[int] = 10
    nothing: ClassVar[Any] = ()

    texts: Mapping[str, Any] | None = option("Held-out text", "named", "--on")
    length: int | None = option("Tokens read at a time; default 512.", "tokens", least=2)
    stride: int | None = option("Tokens scored in each window; default: all.", "number")
    tokens: int | None = option("Score this many of each text; default: all.", "tokens")
    batch_tokens: int = option("Tokens in one forward pass.", "tokens", default=4096)
    precision: str = "fp32"

    def open(self, acting: Acting) -> Opened:
        texts = {name: _readable(open_texts(source)) for name, source in (self.texts or {}).items()}
        return Opened(texts, texts)

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        for name, source in opened.inputs.items():
            yield Reading(name, times(acting.weights) * min(length_of(source, self.tokens), self.tokens or 2**62))

    def run(self, acting: Acting, opened: Opened) -> tuple[OnText, ...]:
        return tuple(self._score(acting, name, source) for name, source in opened.inputs.items())

    def _score(self, acting: Acting, name: str, source: Texts) -> OnText:
        asked = ("length", "stride", "tokens", "batch_tokens", "precision")
        settings: dict[str, Any] = {setting: getattr(self, setting) for setting in asked}
        with acting.base.off(), part(f"{name}, modules off"):
            off = score(acting.base, source, **settings)
        if not acting.weights:
            return OnText(name, off, None, None)
        with acting.base.using(acting.weights), part(f"{name}, modules on", int(off.tokens)):
            on = score(acting.base, source, **settings)
        return OnText(name, off, on, on.minus(off))

    def moved(self, found: tuple[OnText, ...]) -> dict[str, Interval]:
        changes = {loss_added(text.name): text.difference for text in found}
        return {name: Interval(c.nats, c.low, c.high, c.documents) for name, c in changes.items() if c is not None}

    def record(self, found: tuple[OnText, ...], sources: Mapping[str, str]) -> Iterator[card.Measure]:
        for text in found:
            if text.on is not None and text.difference is not None:
                yield _nats("loss", text.on, text.name, text.off.nats)
                yield _nats(LOSS, text.difference, text.name)

    def rows(self, found: tuple[OnText, ...], base: str, label: str) -> Iterator[Table]:
        rows: list[list[str]] = []
        for text in found:
            off, on, change = text.off, text.on, text.difference
            read = f"{counted(off.documents, 'document')}\n{counted(off.tokens, 'token')}"
            row, perplexity = [f"{text.name}\n{read}", _loss(off)], f"{off.perplexity:,.2f}"
            if on is not None and change is not None:
                row += [_loss(on), _change(change)]
                perplexity += f", then {on.perplexity:,.2f}"
            rows.append([*row, f"{perplexity}\n{off.bits_per_byte:.3f} bits/byte"])
        more = [f"with {label}", "change"] if any(text.on is not None for text in found) else []
        few = any(text.off.documents < ENOUGH for text in found)
        yield Table(
            f"Held-out loss, nats per token [95% interval]: {base}",
            ["text", "base", *more, "perplexity"],
            rows,
            f"below {ENOUGH} documents there are {TOO_FEW}" if few else None,
        )


def _readable(source: Texts) -> Texts:
    """A text whose first record was read."""
    if next(iter(source), None) is None:
        raise DataError(f"'{source.name}' holds no token to score: it is empty")
    return source


def _nats(name: str, loss: Score | Difference, on: str, reference: float | None = None) -> card.Measure:
    return card.Measure.over(loss.documents, name, loss.nats, loss.low, loss.high, on=on, reference=reference)


def _loss(loss: Score) -> str:
    """A loss with its interval below it, which few documents do not have."""
    return f"{loss.nats:.4f}" + ("" if loss.documents < ENOUGH else f"\n[{loss.low:.4f}, {loss.high:.4f}]")


def _change(change: Difference) -> str:
    """What was learned or forgotten, with its interval below it."""
    word = learned_or_forgot(change.nats, 4)
    return word + ("" if change.documents < ENOUGH else f"\n{interval_of(change.nats, change.low, change.high, 4)}")
