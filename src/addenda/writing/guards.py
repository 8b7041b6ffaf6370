"""The penalties of a run at work: their states, fitted, asked at each step, kept with checkpoints and beside the modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.module import KnowledgeModule
from addenda.penalties.penalty import Pass, State, standing_in
from addenda.writing.keeping import part
from addenda.writing.packing import Row, Stream
from addenda.writing.plan import CORPUS, EARLIER, Plan

if TYPE_CHECKING:
    from addenda.plug.base import Base
    from addenda.text.texts import Texts

#: the gradient of a row for a module, by the parameters' names
Gradient = Callable[[str, Row], dict[str, Tensor]]


@dataclass(frozen=True)
class Rows:
    """Rows of one text, with a module's gradients on them. Implements `penalties.penalty.Samples`."""

    name: str
    stream: Stream
    gradient: Callable[[Row], dict[str, Tensor]]

    def gradients(self, rows: int) -> Iterator[dict[str, Tensor]]:
        """The gradient of each of the first rows."""
        return (self.gradient(row) for row in islice(self.stream.rows(0), rows))


class Guards:
    """A state for each module and penalty of a run; without penalties every call does nothing."""

    def __init__(self, base: Base, plan: Plan, gradient: Gradient) -> None:
        self.base, self.plan, self.gradient = base, plan, gradient
        self.penalties = {penalty.called(): penalty for penalty in sorted(plan.penalties, key=lambda p: p.follows)}
        self.streams = any(penalty.streams for penalty in self.penalties.values())
        #: by module, then by penalty; empty before the run begins
        self.states: dict[str, dict[str, State]] = {name: {} for name in plan.names}
        #: by module, then by penalty: what was kept beside the module at the run's end
        self.kept: dict[str, dict[str, Any]] = {name: {} for name in plan.names}

    def __bool__(self) -> bool:
        return bool(self.penalties)

    def fit(self, name: str) -> list[str]:
        """Make the states of one module, which stands as at its first step; what they are, in lines for who watches.

        Raises:
            AddendaError: what a penalty needs is not there.
        """
        module, source = self.base.modules[name], self.plan.earlier.get(name)
        for called, penalty in self.penalties.items():
            earlier = self._rows(name, source, EARLIER) if source is not None and penalty.fitted else None
            self.states[name][called] = _placed(module, penalty.fit(module, earlier))
        facts = {called: self.penalties[called].told(state) for called, state in self.states[name].items()}
        return [
            f"{name}: {called}: {', '.join(f'{what} {value}' for what, value in told.items())}"
            for called, told in facts.items()
            if told
        ]

    def loss(self, name: str, seen: Pass) -> Tensor:
        """What a module pays for a pass."""
        total = torch.zeros((), device=self.base.device)
        for called, state in self.states[name].items():
            loss = self.penalties[called].loss(self.base.modules[name], state, seen)
            total = total if loss is None else total + loss.to(total.device)
        return total

    def before_step(self, name: str, gradients: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Let penalties change a module's gradients by stream and parameter, in place."""
        for called, state in self.states[name].items():
            if self.penalties[called].streams:
                self.penalties[called].before_step(self.base.modules[name], state, gradients)

    def after_step(self, name: str) -> None:
        """Let penalties change a module's parameters after its step; what its kind asks of them has the last word."""
        module = self.base.modules[name]
        for called, state in self.states[name].items():
            self.penalties[called].after_step(module, state)
        if self.states[name]:
            with torch.no_grad():
                module.constrain()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """For a block, the modules as they will be kept."""
        with ExitStack() as stack:
            for name, tensors in self._shown():
                stack.enter_context(standing_in(self.base.modules[name], tensors))
            yield

    @torch.no_grad()
    def settle(self) -> None:
        """Make the modules what is to be kept of them."""
        for name, tensors in self._shown():
            own = self.base.modules[name].learning()
            for key, tensor in tensors.items():
                own[key].copy_(tensor)

    def keep(self, name: str) -> None:
        """Keep beside a module, once it has learned its corpus, what later trainings need."""
        module, source = self.base.modules[name], self.plan.corpora[name]
        for called, state in self.states[name].items():
            penalty = self.penalties[called]
            side = penalty.left_beside(module, state, self._rows(name, source, CORPUS))
            told = penalty.told(side or state)
            module.keep_beside(called, side)
            if side or told:
                self.kept[name][called] = told | ({"of": source.name} if side else {})

    def tensors(self) -> dict[str, Tensor]:
        """All states, for a checkpoint; modules go by number."""
        return {
            f"penalty.{number}.{called}.{key}": tensor
            for number, name in enumerate(self.plan.names)
            for called, state in self.states[name].items()
            for key, tensor in state.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `tensors` gave."""
        for number, name in enumerate(self.plan.names):
            for called in self.penalties:
                state = part(tensors, f"penalty.{number}.{called}.")
                self.states[name][called] = _placed(self.base.modules[name], state)

    def _shown(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, states in self.states.items():
            for called, state in states.items():
                yield name, self.penalties[called].shown(state)

    def _rows(self, name: str, source: Texts, code: int) -> Rows:
        return Rows(source.name, self.plan.stream(self.base, source, code), lambda row: self.gradient(name, row))


def _placed(module: KnowledgeModule, state: State) -> State:
    """A state where it belongs: what is named after a parameter beside that, the rest on the CPU.

    Contiguous, as a checkpoint gives it back: sums over other strides have other bits.
    """
    own = module.learning()

    def place(key: str) -> torch.device:
        return next((p.device for name, p in own.items() if key.endswith(f".{name}")), torch.device("cpu"))

    return {key: tensor.to(place(key)).contiguous() for key, tensor in state.items()}
