"""What a penalty promises: what training pays for changing what was there before, and what it may not change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.method import Method
from addenda.core.module import KnowledgeModule
from addenda.core.registry import asked_for

#: what a penalty keeps through a run: tensors by name, changed in place or replaced. Checkpoints hold them all, and give them
#: back in another order. Where a name ends with a parameter's, the tensor lives where that does, any other on the CPU.
State = dict[str, Tensor]


class Samples(Protocol):
    """Rows of one text, packed as training packs its own."""

    @property
    def name(self) -> str:
        """What the text is called."""
        ...

    def gradients(self, rows: int) -> Iterator[dict[str, Tensor]]:
        """The gradient of each of the first `rows` rows: of its mean cost in nats per token, by the parameter's name.

        The parameters are as they stand; the same rows come each time.
        """
        ...


@dataclass(frozen=True)
class Pass:
    """One pass over rows of a training step, as a penalty sees it."""

    #: the pass's share of the module's rows of the whole step: what is paid once a step is multiplied by it
    share: float
    #: its share of the step's replay rows; 0 where it has none
    replay: float
    #: the output of each layer [R, T, D] on the pass's replay rows, with the module as it stands, with a gradient for it
    states: Callable[[], list[Tensor]]


class Penalty(Method):
    """Options of one penalty; a subclass is a frozen dataclass in a file of its own under `penalties/`.

    All hooks do nothing unless a method says otherwise. What is kept between them is the state that `fit` gives.
    """

    stage = "penalty"

    #: whether `fit` can use text of an earlier training
    fitted: ClassVar[bool] = False
    #: whether `before_step` is asked, and so the gradients of corpus and replay are taken apart
    streams: ClassVar[bool] = False
    #: whether `after_step` only reads the parameters, and so comes after those that move them
    follows: ClassVar[bool] = False

    @property
    def replayed(self) -> bool:
        """Whether it does nothing without replay."""
        return False

    def fit(self, module: KnowledgeModule, earlier: Samples | None) -> State:
        """Its state before the first step, from the module, its side tensors, and text of an earlier training if given.

        Raises:
            AddendaError: what it needs is not there, or the module has nothing that it acts on.
        """
        return {}

    def loss(self, module: KnowledgeModule, state: State, seen: Pass) -> Tensor | None:
        """What a pass pays, a scalar; the passes of a step are summed. It may not change the state."""

    def before_step(self, module: KnowledgeModule, state: State, gradients: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Change, in place, the step's gradients by stream ("corpus", "replay") and parameter; their sum is then used."""

    def after_step(self, module: KnowledgeModule, state: State) -> None:
        """Change the parameters in place after the optimizer's step, which any gradient's projection would not survive."""

    def shown(self, state: State) -> dict[str, Tensor]:
        """What is validated and kept in place of the parameters that were trained, by their names."""
        return {}

    def left_beside(self, module: KnowledgeModule, state: State, learned: Samples) -> State:
        """What is kept beside the module for later trainings, once it has learned a text; replaces what was kept before."""
        return {}

    def told(self, state: State) -> dict[str, Any]:
        """What the card says of the state: plain numbers."""
        return {}


@contextmanager
def standing_in(module: KnowledgeModule, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """For a block, tensors in place of the parameters of their names; what autograd has seen of those stays good."""
    own = module.learning()
    before = {name: own[name].data for name in tensors}
    try:
        for name, tensor in tensors.items():
            own[name].data = tensor
        yield
    finally:
        for name, tensor in before.items():
            own[name].data = tensor


def asked_penalties(words: Any) -> tuple[Penalty, ...]:
    """The penalties that were asked for: none, one by its name and options, several joined by `+`, or a list.

    Raises:
        AddendaError: no such penalty, a wrong option, or one asked for twice.
    """
    if isinstance(words, str):
        words = [part.strip() for part in re.split(r"\+(?![^(]*\))", words)]
    listed: list[Any] = [] if words is None else list(words) if isinstance(words, list | tuple) else [words]
    made = tuple(asked_for(Penalty, each) for each in listed)  # pyright: ignore[reportUnknownArgumentType]
    names = [penalty.called() for penalty in made]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise AddendaError(f"penalty '{twice[0]}' is asked for twice; give it once")
    return made
