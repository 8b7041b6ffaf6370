"""Disturbance: how far modules move a base on text that is not theirs: tokens left bit-equal, logits, KL, and layer by layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from addenda.core import card
from addenda.core.card import ENOUGH
from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating
from addenda.measuring.conducting.foretold import COMPARED, length_of
from addenda.measuring.conducting.measure import (
    NATS,
    Measure,
    Opened,
    Reading,
    Table,
    on_card,
    option,
    share,
)
from addenda.measuring.looking.canary import WasOn, proved
from addenda.measuring.looking.pieces import long_enough, pieces_of
from addenda.objectives.head import Head
from addenda.plug.selection import Names, weights_of
from addenda.telling.changes import counted
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.telling.progress import tick
from addenda.text.texts import Texts
from addenda.text.texts import texts as open_texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

TOKENS, LENGTH = 20_000, 256


@dataclass(frozen=True)
class Disturbance:
    """What a selection changes on a text.

    `untouched` is the share of tokens whose logits are bit-equal to the bare base's; `largest` and `mean` the change of a
    logit, absolute; `kl` the divergence from the base's next-token distribution to that with the modules, nats per token;
    `worst` that of the document that is moved most; `agree` the share of tokens whose likeliest next token is the same;
    `by_layer` the change of the residual stream that leaves each layer, relative to its length. Intervals are over documents,
    drawn whole: of one document alone there is none.
    """

    on: str
    modules: dict[str, float]
    canary: tuple[WasOn, ...]
    tokens: int
    untouched: Interval
    largest: float
    mean: float
    kl: Interval
    worst: float
    agree: Interval
    by_layer: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@torch.no_grad()
def disturbance(base: Base, modules: Names, texts: Any, *, tokens: int = TOKENS, length: int = LENGTH) -> Disturbance:
    """Run a text with modules off and on, and compare.

    Args:
        base: with the modules plugged; its own selection is put back after.
        modules: what acts.
        texts: text that no module was trained on, whatever `addenda.train` takes as a corpus.
        tokens: read at most.
        length: of the pieces that documents are cut into; shorter where the base's context is.

    Raises:
        AddendaError: no module is named, one did not run, or logits are not finite.
        DataError: the text cannot be read, or no document is that long.
    """
    weights = weights_of(modules)
    if not weights:
        raise AddendaError("name the modules whose disturbance is measured")
    source, length = open_texts(texts), min(length, base.context or length)
    canary = proved(base, weights)
    with base.off():
        head = Head(base.model)
    seen = _Seen(len(base.host.layers))
    with evaluating(base.model):
        for _, ids, numbers in pieces_of(base, source, [length], tokens):
            with base.off(), base.reader.layer_outputs() as before:
                bare = head.hidden(ids)
            with base.using(weights), base.reader.layer_outputs() as after:
                moved = head.hidden(ids)
            tick(ids.numel())  # the second time that they were read
            seen.add_layers(before, after)
            for number, off, on in zip(numbers, bare, moved, strict=True):
                seen.add_piece(head, off, head, on, number)
    return Disturbance(
        on=source.name,
        modules=weights,
        canary=tuple(canary),
        tokens=seen.tokens,
        untouched=of_mean(seen.equal, seen.documents, SHARE),
        largest=seen.largest,
        mean=seen.total / max(1, seen.numbers),
        kl=seen.divergence(),
        worst=seen.worst(),
        agree=of_mean(seen.agree, seen.documents, SHARE),
        by_layer=tuple(float(a / max(1e-30, b)) for a, b in zip(seen.changed, seen.size, strict=True)),
    )


@torch.no_grad()
def divergence(
    base: Base,
    other: Base,
    on: Callable[[], AbstractContextManager[Any]],
    texts: Any,
    *,
    tokens: int = TOKENS,
    length: int = LENGTH,
) -> tuple[Interval, Interval]:
    """The KL from a bare base to another model of its vocabulary in the block `on()`, and the share of tokens left bit-equal.

    For what changes the base's own weights; of modules `disturbance` tells more. `other` may be `base`. Settings, units and
    errors as there.
    """
    with base.off():
        head = Head(base.model)
    with on():
        theirs = Head(other.model)
    seen = _Seen(0)
    with evaluating(base.model), evaluating(other.model):
        for _, ids, numbers in pieces_of(base, open_texts(texts), [min(length, base.context or length)], tokens):
            with base.off():
                bare = head.hidden(ids)
            with on():
                moved = theirs.hidden(ids)
            for number, before, after in zip(numbers, bare, moved, strict=True):
                seen.add_piece(head, before, theirs, after, number)
    return seen.divergence(), of_mean(seen.equal, seen.documents, SHARE)


class _Seen:
    """Sums over pieces of documents, and whose piece each is."""

    def __init__(self, layers: int) -> None:
        self.tokens = self.numbers = 0
        self.largest = self.total = 0.0
        self.documents: list[int] = []
        self.equal: list[float] = []
        self.kl: list[float] = []
        self.agree: list[float] = []
        self.changed, self.size = [0.0] * layers, [0.0] * layers

    def divergence(self) -> Interval:
        """The KL, over documents."""
        return of_mean(self.kl, self.documents, (0.0, math.inf))

    def worst(self) -> float:
        """The KL of the document that is moved most."""
        each = defaultdict[int, list[float]](list)
        for document, kl in zip(self.documents, self.kl, strict=True):
            each[document].append(kl)
        return max(sum(values) / len(values) for values in each.values())

    def add_piece(self, head: Head, off: Tensor, theirs: Head, on: Tensor, document: int) -> None:
        """Last states [T, D] of one piece, without the modules and with them, each with what makes logits of them."""
        equal = agree = kl = 0.0
        for bare, moved in zip(off.split(head.chunk), on.split(head.chunk), strict=True):
            a, b = head.logits(bare), theirs.logits(moved)
            change = (a - b).abs()
            if not bool(change.isfinite().all()):
                raise AddendaError(
                    "logits are not finite, of the base or with the modules: nothing can be measured of them"
                )
            self.largest = max(self.largest, float(change.max()))
            self.total += float(change.double().sum())
            self.numbers += change.numel()
            equal += float((change == 0).all(-1).sum())
            agree += float((a.argmax(-1) == b.argmax(-1)).sum())
            p, q = a.log_softmax(-1), b.log_softmax(-1)
            kl += float((p.exp() * (p - q)).sum(-1).double().sum())
        count = len(off)
        self.tokens += count
        self.documents.append(document)
        self.equal.append(equal / count)
        self.agree.append(agree / count)
        self.kl.append(max(0.0, kl / count))

    def add_layers(self, before: list[Tensor], after: list[Tensor]) -> None:
        """Residual streams [B, T, D] that leave each layer."""
        for layer, (bare, moved) in enumerate(zip(before, after, strict=True)):
            self.changed[layer] += float((moved.float() - bare.float()).norm(dim=-1).double().sum())
            self.size[layer] += float(bare.float().norm(dim=-1).double().sum())


@dataclass(frozen=True)
class Neutrality(Measure):
    """What modules change on text that none was trained on: KL, tokens left bit-equal, logits, and layer by layer."""

    name: ClassVar[str] = "neutrality"
    place: ClassVar[int] = 60
    of_modules: ClassVar[bool] = True
    nothing: ClassVar[Any] = ()

    neutrality: Any = option("Text not trained on: what the modules change there, as KL and else.", "texts")
    tokens: int | None = option(f"Of --neutrality; default: {TOKENS:,}.", "tokens")

    def open(self, base: Base, weights: Mapping[str, float]) -> Opened:
        """The texts, each with a document of the length that is measured on; named apart where there are several."""
        texts = [long_enough(base, source, LENGTH) for source in _several(self.neutrality)]
        return Opened(texts, {"neutrality" if len(texts) == 1 else f"neutrality, {text.name}": text for text in texts})

    def reads(self, base: Base, weights: Mapping[str, float], opened: Opened) -> Iterator[Reading]:
        """Pieces of each text, twice."""
        for source in opened.inputs:
            tokens = min(length_of(source, self.tokens), self.tokens or TOKENS)
            yield Reading(f"neutrality on {source.name}", 2 * tokens, COMPARED)

    def run(
        self, base: Base, weights: Mapping[str, float], opened: Opened, moved: Mapping[str, Interval]
    ) -> tuple[Disturbance, ...]:
        """What changes on each text, the one that is moved most first; see `disturbance`."""
        texts: list[Texts] = opened.inputs
        changes = [disturbance(base, dict(weights), text, tokens=self.tokens or TOKENS) for text in texts]
        return tuple(sorted(changes, key=lambda change: -change.kl.value))

    def record(self, found: tuple[Disturbance, ...], sources: Mapping[str, str]) -> Iterator[card.Measure]:
        """What is left alone, and how far the rest is moved."""
        for change in found:
            yield from on_card("tokens left bit-equal", change.untouched, change.on)
            yield from on_card("KL from the base", change.kl, change.on, unit=NATS)
            name = "largest change of a logit"
            yield card.Measure(name=name, value=change.largest, unit="logits", n=change.tokens, on=change.on)

    def rows(self, found: tuple[Disturbance, ...], base: str, label: str) -> Iterator[Table]:
        """A column for each text."""
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
