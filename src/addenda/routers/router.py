"""What a router promises: keys of each module, the distance of prompts from them, and which modules a prompt is given.

Shapes: B prompts of a batch, T tokens, N prompts learned from, M modules, n numbers that are kept of a prompt.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.method import Method
from addenda.core.module import KnowledgeModule
from addenda.core.site import Anatomy

#: what a module's keys are: tensors by name
Keys = Mapping[str, Tensor]


class Router(Method):
    """Options of one router; a subclass is a frozen dataclass in a file of its own under `routers/`.

    The bare base reads each prompt once, whatever the modules. Of what enters the sites that a router asks for it keeps
    `features` per module; from those of the module's own text it learns `keys`, which stay beside the module, and from keys
    and features come distances. General prompts held back from learning are kept as `keys["general"]`, their distances.
    """

    stage = "router"

    #: whether a prompt is a module's where its distance is small; False: where it is large
    nearer: ClassVar[bool] = True
    #: whether keys hold for the module's parameters as they were when they were learned; False: whatever becomes of these
    of_module: ClassVar[bool] = False

    @abstractmethod
    def sites(self, module: KnowledgeModule, anatomy: Anatomy) -> Sequence[str]:
        """The keys of the sites whose inputs it wants to see for a module.

        Raises:
            AddendaError: the options do not fit the base, or the module is of a kind that it cannot route to.
        """

    @abstractmethod
    def features(self, module: KnowledgeModule, inputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """What is kept of each prompt [B, n], from what enters the sites [B, T, D] in the bare base.

        `mask` [B, T] is True on a prompt's tokens; pads stand on the right.
        """

    @abstractmethod
    def learn(self, subject: Tensor, general: Tensor) -> dict[str, Tensor]:
        """A module's keys, from the features [N, n] of prompts of its own text and of general ones."""

    @abstractmethod
    def distances(self, keys: Keys, features: Tensor) -> Tensor:
        """The distance [B] of each prompt from a module, from features [B, n]."""

    def threshold(self, keys: Keys, share: float) -> float:
        """The distance before which a prompt is the module's, so that this comes to at most a share of general prompts.

        Of n general prompts that the keys did not see, a new one is as likely to fall between any two. The finest share is
        therefore one in n + 1. A share of 1 asks for nothing.

        Raises:
            AddendaError: a share that so few general prompts cannot tell.
        """
        if share >= 1:
            return torch.inf if self.nearer else -torch.inf
        general = keys["general"].sort(descending=not self.nearer).values
        rank = int(share * (len(general) + 1))
        if rank < 1:
            raise AddendaError(
                f"{len(general)} general prompts cannot tell a share of {share:.2%}: learn the keys from more, raise at_most, or "
                "name fewer modules"
            )
        return float(general[rank - 1])

    def choose(self, distances: Tensor, thresholds: Tensor, names: Sequence[str]) -> list[str | None]:
        """For each of B prompts the module that it is given, or None, from distances [B, M] and thresholds [M].

        The nearest of those within their threshold; of two that are equally near the first.
        """
        signed, limits = (distances, thresholds) if self.nearer else (-distances, -thresholds)
        within = torch.where(signed < limits, signed, torch.inf)
        best: list[int] = within.argmin(1).tolist()  # pyright: ignore[reportAssignmentType]
        return [names[at] if within[row, at] < torch.inf else None for row, at in enumerate(best)]


def counted(mask: Tensor) -> Tensor:
    """The tokens [B, T] of a mean over a prompt: all but its first, which says little and weighs much, unless it is alone."""
    rest = mask.clone()
    rest[:, 0] &= mask.sum(1) == 1
    return rest
