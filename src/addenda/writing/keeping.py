"""What a run keeps of its modules: parameters, buffers and moments as tensors, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addenda.optimizers.optimizer import load_optimizer_tensors, optimizer_tensors

if TYPE_CHECKING:
    from addenda.plug.base import Base


def kept_tensors(
    base: Base, names: Sequence[str], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Everything that changes in the modules `names` between steps, with torch's random state.

    Modules go by number: their names may hold what a tensor's name must not.
    """
    tensors: dict[str, Tensor] = {"rng.torch": torch.get_rng_state()}
    for number, name in enumerate(names):
        tensors |= {f"value.{number}.{key}": tensor for key, tensor in base.modules[name].tensors().items()}
        moments = optimizer_tensors(optimizers[name], _named(base, name))
        tensors |= {f"optimizer.{number}.{key}": tensor for key, tensor in moments.items()}
    return tensors


def put_back(
    base: Base, names: Sequence[str], optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Put back, bit by bit, what `kept_tensors` gave."""
    for number, name in enumerate(names):
        module = base.modules[name]
        module.load_tensors(part(tensors, f"value.{number}."))
        module.awaits_text = False
        load_optimizer_tensors(optimizers[name], part(tensors, f"optimizer.{number}."), _named(base, name))
    torch.set_rng_state(tensors["rng.torch"])


def part(tensors: Mapping[str, Tensor], front: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `front`, without it."""
    return {key.removeprefix(front): tensor for key, tensor in tensors.items() if key.startswith(front)}


def _named(base: Base, name: str) -> dict[torch.nn.Parameter, str]:
    return {parameter: key for key, parameter in base.modules[name].learning().items()}
