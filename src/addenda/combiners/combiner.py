"""What a combiner promises: one module's task vectors from those of several, tensor by tensor."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.method import Method

#: of more numbers than this a threshold is taken from every second, third, ... one
SAMPLE = 1 << 26


@dataclass(frozen=True)
class Part:
    """One of several modules of a kind and base: what it adds, as numbers that stand for the same in all of them.

    `vectors` are its task vectors by name, any shape, float32; `moments` the mean squared gradients of these numbers, of the
    same names and shapes, empty where a combiner does not ask for them. Both are computed when they are looked at: large ones
    should be looked at one at a time.
    """

    name: str
    weight: float
    vectors: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


class Combiner(Method):
    """Options of one combiner; a subclass is a frozen dataclass in a file of its own under `combiners/`.

    Weights are shares: a combiner makes no difference between 1 and 1, and 0.5 and 0.5, unless it says so.
    """

    stage = "combiner"

    #: whether it asks for `Part.moments`
    needs_moments: ClassVar[bool] = False
    #: what to train for it, where it refuses kinds whose modules grow when they are combined; empty where it takes any
    same_size: ClassVar[str] = ""

    def check_weights(self, weights: Mapping[str, float]) -> None:
        """Refuse weights that it can do nothing with.

        Raises:
            AddendaError: one is not a positive number.
        """
        for name, weight in weights.items():
            if not 0 < weight < math.inf:
                raise AddendaError(f"{self.called()} takes positive weights; that of '{name}' is {weight:g}")

    def shares(self, weights: Sequence[float]) -> list[float] | None:
        """For methods whose result is a weighted sum of what the modules add: the weight of each; None for all others.

        A kind then puts the modules side by side, exactly, and `combine` is asked only where parameters are combined in place.
        """
        return None

    @abstractmethod
    def combine(self, parts: Sequence[Part]) -> Iterator[tuple[str, Tensor]]:
        """Every name of the parts' task vectors with the combined tensor, one after another."""


def weighted_sum(parts: Sequence[Part], shares: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    """sum_i s_i D_i, tensor by tensor."""
    for name in parts[0].vectors:
        total = torch.zeros_like(parts[0].vectors[name])
        for part, share in zip(parts, shares, strict=True):
            total += share * part.vectors[name]
        yield name, total


def threshold(tensors: Iterable[Tensor], density: float) -> float:
    """The number that a share `density` of all numbers of some tensors reach; -inf for all of them.

    Of more than `SAMPLE` numbers it is that of an even sample.
    """
    if density >= 1:
        return -math.inf
    kept: list[Tensor] = []
    every, held = 1, 0
    for tensor in tensors:
        kept.append(tensor.flatten()[::every].cpu())
        held += kept[-1].numel()
        if held > SAMPLE:
            every, kept = 2 * every, [some[::2] for some in kept]
            held = sum(some.numel() for some in kept)
    numbers = torch.cat(kept)
    most = max(1, min(len(numbers), round(density * len(numbers))))
    return float(torch.kthvalue(numbers, len(numbers) - most + 1).values)


def check_share(method: str, name: str, value: float) -> None:
    """Refuse an option that is no share.

    Raises:
        AddendaError: it is not above 0 and at most 1.
    """
    if not 0 < value <= 1:
        raise AddendaError(f"{method}: {name} is a share above 0 and at most 1; got {value}")
