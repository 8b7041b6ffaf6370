"""What a write rule promises: what it watches while a chunk is read, and what it then makes of the module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch

from addenda.core.method import Method
from addenda.core.module import KnowledgeModule


@dataclass(frozen=True)
class Pace:
    """How fast a module is written, as the user says: `steps` on each chunk, `clip` the largest norm of its gradient."""

    lr: float
    steps: int = 1
    clip: float = float("inf")
    weight_decay: float = 0.0


class Writing(ABC):
    """A rule at work on one module. For each chunk: `collect` around its forward, a backward of its loss, `apply`."""

    #: how often a chunk is read and written
    passes: int = 1
    #: what it keeps between chunks, all tensors that a checkpoint can name
    optimizers: Mapping[str, torch.optim.Optimizer] = {}

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Watch the module's sites while a chunk is read."""
        yield

    @abstractmethod
    def apply(self, tokens: int) -> None:
        """Write what was read, once gradients are there: of the mean cost of the chunk's fresh `tokens`.

        Raises:
            TrainingError: something is not finite; the module is then as it was.
        """


class WriteRule(Method):
    """Options of one write rule; a subclass is a frozen dataclass in a file of its own under `writes/`."""

    stage = "write"
    #: whether what the module does to replay text is part of the cost
    replayed: ClassVar[bool] = True
    #: whether a module that starts from text is started; else the rule needs no start
    started: ClassVar[bool] = True

    def check(self, module: KnowledgeModule) -> None:
        """Refuse a module that cannot be written so.

        Raises:
            AddendaError: says what it is for.
        """
        return

    @abstractmethod
    def over(self, module: KnowledgeModule, pace: Pace) -> Writing:
        """The rule at work on a module."""
