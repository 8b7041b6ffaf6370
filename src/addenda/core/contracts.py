"""START HERE: what a kind, an adapter and a knowledge module promise to the rest of the library.

Shapes, everywhere: B rows of a batch, R rows that select a module, T tokens, D model width, F FFN width, H heads,
G key-value heads, K head width, S slots (registers, units), L layers, V vocabulary.

A **kind** is a frozen dataclass of options; it knows how to build its adapters from a base's anatomy. An **adapter**
is the `nn.Module` that stands at one site. Adapters know nothing of hooks, requests, files or servers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from addenda.core.adapter import (
    Adapter,
    AddingAdapter,
    AroundAdapter,
    ClassifyingAdapter,
    GatedAdapter,
    HeadAdapter,
    Own,
    ReplacingAdapter,
)
from addenda.core.attending import AttentionAdapter, ChoosingAdapter
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.method import Method
from addenda.core.site import Anatomy, Seam
from addenda.core.state import KeyValues
from addenda.core.units import Units

__all__ = [
    "Adapter",
    "AddingAdapter",
    "AroundAdapter",
    "AttentionAdapter",
    "ChoosingAdapter",
    "ClassifyingAdapter",
    "GatedAdapter",
    "HeadAdapter",
    "Kind",
    "Own",
    "Reader",
    "ReplacingAdapter",
    "into",
]


class Reader(Protocol):
    """How a kind that starts from text asks the base to read it. Token ids are a LongTensor [T]."""

    def hidden_states(self, ids: Tensor) -> list[Tensor]:
        """The residual stream that enters each layer, [T, D] per layer."""
        ...

    def key_values(self, ids: Tensor, beside: Mapping[str, Adapter] | None = None) -> list[KeyValues]:
        """Keys and values [G, T, K] per layer, the text standing just before position zero.

        `beside` are adapters by site key; what those add that stand beside FFNs and linear layers is added as the text is read.
        """
        ...

    def inputs(self, sites: Sequence[str], ids: Tensor) -> dict[str, Tensor]:
        """What enters each of some sites [T, D], by site key."""
        ...

    def residuals(self, sites: Sequence[str], ids: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The residual stream [T, D] that each of some FFNs is added to, and the sum of both, by site key."""
        ...

    def units(self, layer: int) -> Units:
        """The hidden units of a layer's FFN."""
        ...


class Kind(Method):
    """Options of one kind of module; a subclass is a frozen dataclass in a file of its own under `kinds/`."""

    stage = "kind"

    #: the seam its adapters stand at
    seam: ClassVar[Seam]
    #: learning rate that its own tests and studies found good
    default_lr: ClassVar[float]
    #: PEFT's name of each tensor of an adapter; empty where its format holds no such module
    peft_names: ClassVar[Mapping[str, str]] = {}
    #: PEFT's type of adapters that are read as modules of this kind
    reads_peft: ClassVar[str] = ""

    @property
    def default_local(self) -> float:
        """Weight of the local neutrality loss when `train` is given none."""
        return 0.0

    @property
    def fresh_is_neutral(self) -> bool:
        """Whether a new module leaves the logits bit-equal."""
        return True

    @property
    def starts_from_text(self) -> bool:
        """Whether a new module takes its start from text (at `new`, else from the first `train` call)."""
        return False

    @property
    def takes_pages(self) -> bool:
        """Whether the text that it starts from may be laid out in pages."""
        return False

    @property
    def shared_softmax(self) -> bool:
        """Whether its slots share the tokens' softmax; then weights must not be negative."""
        return False

    @property
    def least_weight(self) -> str | None:
        """Why weights must not be negative, in words that follow "'m' "; None where they may."""
        return "shares the tokens' softmax, where a weight w adds log w to its scores" if self.shared_softmax else None

    @property
    def written_by(self) -> str:
        """The write rule that `memorize` takes when none is asked for."""
        return "gradient"

    @property
    def quiet(self) -> bool:
        """Whether `memorize` keeps it silent on general text unless something else is asked."""
        return False

    @classmethod
    def memory(cls, anatomy: Anatomy, published: bool) -> Kind | None:
        """What `memorize` makes for a base when no kind is asked for, or as published; None: not of this kind."""
        return None

    @abstractmethod
    def adapters(self, anatomy: Anatomy) -> Mapping[str, Adapter]:
        """Fresh adapters by site key.

        Raises:
            AddendaError: the options do not fit the anatomy.
        """

    @property
    def module_gate(self) -> tuple[str, dict[str, Any]] | None:
        """Name and options of the gate for the whole module that the kind's own options ask for; None: none."""
        return None

    def blank(self) -> dict[str, Any] | None:
        """What an empty text memory holds; None for kinds that touch the base."""
        return None

    def restored(self, held: Mapping[str, Any]) -> dict[str, Any]:
        """What a text memory's file holds, checked."""
        raise NotImplementedError

    @property
    def gates_itself(self) -> bool:
        """Whether its adapters decide for each token by themselves; then no module's gate stands before them."""
        return False

    def joined(self, count: int, anatomy: Anatomy) -> Kind:
        """The kind of a module that has room for what `count` of this kind add together; itself where that takes no more room.

        Raises:
            UnsupportedError: no module of the kind adds what several add together; says why.
        """
        raise UnsupportedError("the kind does not say how one module adds what several add")

    def prepare(self, adapters: Mapping[str, Adapter], reader: Reader) -> None:
        """Give new adapters what they take from the base's own weights; a loaded module has it in its file."""

    def start(self, adapters: Mapping[str, Adapter], ids: Tensor, reader: Reader) -> None:
        """Start the adapters from text, for kinds where `starts_from_text` holds.

        `ids` is a LongTensor [T]; of kinds that take pages it may be [T, 3]: a token, its line and its page, both counted from
        zero through the text.
        """
        raise NotImplementedError

    def of_units(
        self, anatomy: Anatomy, units: Mapping[str, Units], like: Mapping[str, Adapter]
    ) -> tuple[Kind, Mapping[str, Adapter]]:
        """The inverse of `Adapter.units`: this kind with options that fit, and adapters made of these units.

        Args:
            anatomy: the base's, with the sites alone that the module may touch.
            units: by site key, as many at each site.
            like: the adapters they come from, by site key; what is no unit (a gate per token, a scale) is taken from them.

        Raises:
            UnsupportedError: adapters of this kind are made of something else, or not of such units.
        """
        raise UnsupportedError(f"{type(self).__name__} cannot be made of hidden units that are given")

    def of_factors(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Kind, Mapping[str, Adapter]]:
        """The inverse of `Adapter.factors`: this kind with options that fit, and adapters that add B A x, by site key.

        Raises:
            UnsupportedError: adapters of this kind are no such products.
        """
        raise UnsupportedError(f"{type(self).__name__} cannot be made of two matrices that are given")

    def of_size(self, parameters: int, anatomy: Anatomy) -> Kind:
        """This kind with options such that a module has about so many parameters, for comparisons at equal size.

        Raises:
            UnsupportedError: the kind does not say which.
        """
        raise UnsupportedError(f"{type(self).__name__} does not say which options make a module of a given size")

    def to_peft(self) -> dict[str, Any]:
        """What PEFT's configuration says of such a module beside its targets; asked where there are `peft_names`."""
        raise NotImplementedError

    @classmethod
    def from_peft(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The options, beside `targets`, of what a checked configuration of the type `reads_peft` says."""
        raise NotImplementedError

    def check(self, holds: bool, message: str) -> None:
        """Raise a clear error unless `holds`; for `__post_init__`."""
        if not holds:
            raise AddendaError(f"{type(self).__name__}: {message}")


def into(x: Tensor, weight: Tensor) -> Tensor:
    """x in the dtype of `weight`; as it is under autocast, which casts by itself."""
    return x if x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)
