"""Neutrality: what modules change on text that is not theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from addenda.core import card
from addenda.core.card import ENOUGH
from addenda.measuring.conducting.foretold import COMPARED, length_of
from addenda.measuring.conducting.lines import NATS, on_card, share
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, option
from addenda.measuring.looking.disturbance import LENGTH, TOKENS, Disturbance, disturbance
from addenda.measuring.looking.pieces import long_enough
from addenda.telling.changes import counted
from addenda.text.texts import Texts
from addenda.text.texts import texts as open_texts


@dataclass(frozen=True)
class Neutrality(Measure):
    """What modules change on text that none was trained on: KL, tokens left bit-equal, logits, and layer by layer."""

    name: ClassVar[str] = "neutrality"
    place: ClassVar[int] = 60
    of_modules: ClassVar[bool] = True
    nothing: ClassVar[Any] = ()

    neutrality: Any = option("Text not trained on: what the modules change there, as KL and else.", "texts")
    tokens: int | None = option(f"Of --neutrality; default: {TOKENS:,}.", "tokens")

    def open(self, acting: Acting) -> Opened:
        texts = [long_enough(acting.base, source, LENGTH) for source in _several(self.neutrality)]
        return Opened(texts, {"neutrality" if len(texts) == 1 else f"neutrality, {text.name}": text for text in texts})

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        for source in opened.inputs:
            tokens = min(length_of(source, self.tokens), self.tokens or TOKENS)
            yield Reading(f"neutrality on {source.name}", 2 * tokens, COMPARED)

    def run(self, acting: Acting, opened: Opened) -> tuple[Disturbance, ...]:
        texts: list[Texts] = opened.inputs
        changes = [disturbance(acting.base, acting.weights, text, tokens=self.tokens or TOKENS) for text in texts]
        return tuple(sorted(changes, key=lambda change: -change.kl.value))

    def record(self, found: tuple[Disturbance, ...], sources: Mapping[str, str]) -> Iterator[card.Measure]:
        for change in found:
            yield from on_card("tokens left bit-equal", change.untouched, change.on)
            yield from on_card("KL from the base", change.kl, change.on, unit=NATS)
            name = "largest change of a logit"
            yield card.Measure(name=name, value=change.largest, unit="logits", n=change.tokens, on=change.on)

    def rows(self, found: tuple[Disturbance, ...], base: str, label: str) -> Iterator[Table]:
        tell: dict[str, Callable[[Disturbance], str]] = {
            "KL from the bare base, nats per token": _divergence,
            "the same, of the document moved most": lambda change: f"{change.worst:.5f}",
            "tokens left bit-equal": lambda change: share(change.untouched),
            "same likeliest next token": lambda change: share(change.agree),
            "change of a logit: mean, largest": lambda change: f"{change.mean:.4f}, {change.largest:.3f}",
            "residual stream after a layer, relative: least, most": lambda change: (
                f"{min(change.by_layer):.2%}, {max(change.by_layer):.2%}"
            ),
        }
        read = (f"{change.on}\n{counted(change.kl.n, 'document')}\n{change.tokens:,} tokens" for change in found)
        yield Table(
            "What changed on other text [95% interval over documents]",
            ["", *read],
            [[name, *map(row, found)] for name, row in tell.items()],
        )


def _several(given: Any) -> list[Any]:
    """One text, or several in a tuple or by name."""
    if isinstance(given, Mapping):
        return [open_texts(source, name=name) for name, source in given.items()]
    return list(given) if isinstance(given, tuple) else [given]


def _divergence(change: Disturbance) -> str:
    kl = change.kl
    return f"{kl.value:.5f}" + ("" if kl.n < ENOUGH else f" [{kl.low:.5f}, {kl.high:.5f}]")
