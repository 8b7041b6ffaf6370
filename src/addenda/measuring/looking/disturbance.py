"""Disturbance: how far modules move a base on text that is not theirs: tokens left bit-equal, logits, KL, and layer by layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating
from addenda.core.plain import Plain
from addenda.measuring.looking.canary import WasOn, proved
from addenda.measuring.looking.pieces import pieces_of
from addenda.objectives.head import Head
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.telling.progress import tick
from addenda.text.texts import texts as open_texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

TOKENS, LENGTH = 20_000, 256


@dataclass(frozen=True)
class Disturbance(Plain):
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
