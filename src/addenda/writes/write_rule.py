"""What a write rule promises: what it watches while a chunk is read, and what it then makes of the module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.method import Method
from addenda.core.module import KnowledgeModule
from addenda.core.site import Anatomy

#: from what enters a site (None: not known) and what leaves it to what shall leave it
Change = Callable[[Tensor | None, Tensor], Tensor]


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
    """Options of one write rule; a subclass is a frozen dataclass in a file of its own under `writes/`.

    This one writes a text, chunk by chunk; one that writes facts is an `EditRule`.
    """

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


@dataclass(frozen=True)
class FactToWrite:
    """A fact as an edit rule is given it: token ids, and where they stand.

    `prompts` are rows of ids that end where the answer begins, the bare prompt first, then with other words before it;
    `subjects` the position of the subject's last token in each; `target` the answer's ids; `about` ids that speak of the subject
    alone, of which what comes next should stay as it is, and `about_subject` its last token's position there.
    """

    prompts: tuple[Tensor, ...]
    subjects: tuple[int, ...]
    target: Tensor
    about: Tensor
    about_subject: int


class Editor(Protocol):
    """What an edit rule may do with the frozen base."""

    @property
    def anatomy(self) -> Anatomy:
        """Its sizes and sites."""
        ...

    def inputs(self, sites: Sequence[str], ids: Tensor) -> dict[str, Tensor]:
        """What enters each of some sites [T, D], by key, for token ids [T]."""
        ...

    def logits(self, ids: Tensor, changes: Mapping[str, Change]) -> Tensor:
        """Logits [B, T, V] of token ids [B, T], while changes act at sites; with a gradient where one is wanted."""
        ...


class EditRule(WriteRule):
    """A rule that writes facts at once: `collect` sums over general text, then `solve`."""

    def check(self, module: KnowledgeModule) -> None:
        """Refused: it writes no text."""
        raise AddendaError(f"{self.called()} writes facts, and no text that is read: addenda.edit takes it")

    def over(self, module: KnowledgeModule, pace: Pace) -> Writing:
        """Refused as by `check`."""
        raise NotImplementedError

    @abstractmethod
    def sites(self, anatomy: Anatomy) -> list[str]:
        """The linear layers that it changes.

        Raises:
            UnsupportedError: the base has none such.
        """

    @abstractmethod
    def collect(self, editor: Editor, texts: Iterable[Tensor]) -> dict[str, Tensor]:
        """Sums over rows of ids of general text, by site; never all of its tokens at once."""

    @abstractmethod
    def solve(self, editor: Editor, facts: Sequence[FactToWrite], general: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each site's matrix changes by, [D_out, D_in], so that the facts hold.

        Args:
            editor: the frozen base.
            facts: to write.
            general: what `collect` gave.

        Raises:
            TrainingError: it is not finite.
        """
