"""What a run keeps of its modules: parameters, buffers and moments as tensors, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.errors import TrainingError
from addenda.core.registry import plain_options
from addenda.optimizers.optimizer import load_optimizer_tensors, optimizer_tensors

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: each module's optimizers, by what a checkpoint calls them
Optimizers = Mapping[str, Mapping[str, torch.optim.Optimizer]]


def identity_of(base: Base, names: Sequence[str]) -> dict[str, Any]:
    """What a resumption must find again of the modules `names`, as plain data: kinds with their options, gates, the base."""
    modules = {name: base.modules[name] for name in names}
    gates = {name: module.card.gate for name, module in modules.items() if module.card.gate is not None}
    return {
        "modules": {name: [type(m.kind).__name__, plain_options(m.kind)] for name, m in modules.items()},
        "gate": gates or None,  # where a kind's own options say it, they are compared
        "base": base.fingerprint,
    }


def check_numbers(base: Base, names: Sequence[str], where: str) -> None:
    """Refuse to keep modules that an optimizer's step has made no numbers of.

    Raises:
        TrainingError: a parameter of one is not finite.
    """
    for name in names:
        for key, parameter in base.modules[name].named_parameters():
            if not bool(parameter.isfinite().all()):
                raise TrainingError(
                    f"the parameters of '{name}' are not finite after {where} ({key}), and were not kept. A smaller lr, or other "
                    "options of its optimizer, may help"
                )


def kept_tensors(base: Base, optimizers: Optimizers) -> dict[str, Tensor]:
    """Everything that changes in modules between steps.

    Modules go by number: their names may hold what a tensor's name must not.
    """
    tensors: dict[str, Tensor] = {}
    for number, (name, named) in enumerate(optimizers.items()):
        module = base.modules[name]
        tensors |= {f"value.{number}.{key}": tensor for key, tensor in module.tensors().items()}
        for label, optimizer in named.items():
            moments = optimizer_tensors(optimizer, {parameter: key for key, parameter in module.learning().items()})
            tensors |= {f"{label}.{number}.{key}": tensor for key, tensor in moments.items()}
    return tensors


def put_back(base: Base, optimizers: Optimizers, tensors: Mapping[str, Tensor]) -> None:
    """Put back, bit by bit, what `kept_tensors` gave."""
    for number, (name, named) in enumerate(optimizers.items()):
        module = base.modules[name]
        module.load_tensors(part(tensors, f"value.{number}."))
        module.awaits_text = False
        for label, optimizer in named.items():
            moments = part(tensors, f"{label}.{number}.")
            load_optimizer_tensors(optimizer, moments, {p: key for key, p in module.learning().items()})


def part(tensors: Mapping[str, Tensor], front: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `front`, without it."""
    return {key.removeprefix(front): tensor for key, tensor in tensors.items() if key.startswith(front)}
