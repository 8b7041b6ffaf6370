"""What a module's gate promises: read at one early site, one number per token for the whole module, state per row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from addenda.core.errors import AddendaError
from addenda.core.method import Method
from addenda.core.site import Anatomy, Seam, Site

#: the layer of a deep base where a gate reads "early": those below do without the module
EARLY = 3
#: where a gate reads
ReadAt = int | Literal["early", "fifth"] | None


@dataclass(frozen=True)
class GateRows:
    """Rows that a gate is fitted to: inputs of its site `x` [R, T, D], document numbers [R, T], and whose text it is.

    `starts` [R, T] is True where a text begins anew: with a document, and where the other side had the word before.
    """

    x: Tensor
    documents: Tensor
    subject: bool
    starts: Tensor


class Gate(nn.Module, ABC):
    """One gate for a whole module: it reads the input of one early site, below everything that the module changes.

    A token's statistic sums up what the document has said so far; the module acts where it exceeds `threshold`. Where
    the gate is shut, and was on every earlier token of the document, logits stay bit-equal. A fresh gate is open.
    """

    #: whether the gate penalty goes on teaching it while the module learns; else it stays as it was fitted
    taught: ClassVar[bool]
    #: whether half of what it is fitted to has both sides by turns in one text
    turns: ClassVar[bool]
    #: whether it begins anew where the user begins to speak, as where a document does
    by_turn: bool = False
    threshold: Tensor

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site, self.layer = site.key, site.layer
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float32))

    @property
    @abstractmethod
    def fresh(self) -> bool:
        """Whether nothing ever told it subject from replay."""

    @property
    def floor(self) -> float:
        """The least threshold that calibration may set: what the gate was trained with."""
        return 0.0

    @abstractmethod
    def begin(self) -> None:
        """Be no longer fresh: training is about to ask it to tell subject from replay."""

    @abstractmethod
    def fit(self, rows: Iterable[GateRows], seed: int) -> None:
        """Learn to tell the subject's rows from the others at once, before the module learns anything."""

    @abstractmethod
    def forward(
        self, x: Tensor, state: Tensor | None = None, mask: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The statistic of each token [R, T], float32, and the state after the last one.

        Args:
            x: input of the gate's site [R, T, D].
            state: [R, n], what the call before returned for these rows; None where a text begins.
            mask: [R, T], False on pads, which leave the state as it was.
            starts: [R, T], True where a document begins; None where none does, but at the beginning of a text.
        """

    @abstractmethod
    def amplitude(self, statistic: Tensor) -> Tensor:
        """How far the gate is open for a statistic of that shape: exactly zero up to the threshold."""


def starts_of(documents: Tensor) -> Tensor:
    """Where documents begin [R, T], from document numbers [R, T]; a row begins with one."""
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return starts


def apart(row: Tensor, documents: Tensor) -> tuple[Tensor, ...]:
    """The parts of a row [T, ...] that are of one document each, from document numbers [T]."""
    ends: list[int] = (documents.diff().nonzero().flatten() + 1).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    parts: tuple[Tensor, ...] = torch.tensor_split(row, ends)
    return parts


@dataclass(frozen=True)
class GateMethod(Method):
    """Options of one gate; a subclass is a frozen dataclass in a file of its own under `gates/`.

    `read_at` is the layer whose input it reads: a number, `"early"` (layer 3, or a third of the way up where that is lower),
    `"fifth"` (a fifth of the way up, or `"early"` where that is higher), or None, a third of the way up.
    """

    read_at: ReadAt = "early"

    stage = "gate"

    @abstractmethod
    def module(self, site: Site) -> Gate:
        """The gate that reads what enters a site."""

    def site(self, anatomy: Anatomy, seam: Seam) -> Site:
        """Where it reads for adapters at a seam: an FFN's input, or an attention module's where adapters or the base ask that.

        Raises:
            AddendaError: there is no such layer.
        """
        third = anatomy.layers // 3
        early = min(EARLY, third)
        named = {None: third, "early": early, "fifth": max(early, anatomy.layers // 5)}
        layer = named[self.read_at] if isinstance(self.read_at, str | None) else self.read_at
        if not 0 <= layer < anatomy.layers:
            raise AddendaError(f"read_at is a layer from 0 to {anatomy.layers - 1}; got {layer}")
        entry = Seam.ATTENTION if seam is Seam.ATTENTION or not anatomy.at(Seam.FFN) else Seam.FFN
        return next(site for site in anatomy.at(entry) if site.layer == layer)


def behind(anatomy: Anatomy, gate: Site) -> Anatomy:
    """An anatomy with the sites alone that run once a gate that reads what enters `gate` is known.

    Linear layers of its own layer are left out: some run before. So are attention modules, where it reads an FFN's input.
    """

    def later(site: Site) -> bool:
        same = site.seam is gate.seam or (site.seam is Seam.FFN and gate.seam is Seam.ATTENTION)
        return site.layer > gate.layer or (site.layer == gate.layer and same)

    return replace(anatomy, sites=tuple(site for site in anatomy.sites if later(site)))
