"""Preparing a base for training, and putting everything back: flags, modes, random state, checkpointing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from addenda.core.errors import TrainingError
from addenda.core.modes import own_modes

if TYPE_CHECKING:
    from addenda.plug.base import Base


_ABSENT = object()


@contextmanager
def prepared(base: Base, names: Iterable[str], *, seed: int, gradient_checkpointing: bool) -> Iterator[None]:
    """For a block, only the named modules want gradients and no dropout is active; everything is put back after.

    The base stays in evaluation mode: what is frozen is read as it will be read later, and two runs of one seed are
    equal. Gradient checkpointing, which transformers ties to training mode, is switched on in its layers alone.

    Raises:
        TrainingError: the base is being trained on in another thread.
        UnsupportedError: one is a text memory.
    """
    names = set(names)
    for name in names:
        base.modules[name].check_adapts("train")
    with ExitStack() as stack:
        stack.enter_context(_random_state(seed))
        stack.enter_context(_alone(base))
        stack.enter_context(own_modes())
        stack.enter_context(torch.enable_grad())
        stack.enter_context(base.frozen())
        for name, module in base.modules.items():
            stack.enter_context(_flags(module))
            if name not in names:
                module.requires_grad_(False)
        stack.enter_context(_modes([base.model, *base.modules.values()]))
        base.model.eval()
        for name in names:
            base.modules[name].train().float()
        if gradient_checkpointing:
            stack.enter_context(_checkpointing(base))
        yield


#: bases that are being trained on
_busy: WeakSet[Any] = WeakSet()


def check_free(base: Base) -> None:
    """Refuse a base that is being trained on in another thread, before anything else is said of it.

    Raises:
        TrainingError: it is.
    """
    if base in _busy:
        raise TrainingError("this base is being trained on in another thread; wait, or load it once more")


@contextmanager
def _alone(base: Base) -> Iterator[None]:
    """Two runs on one base would take each other's gradients away."""
    check_free(base)
    _busy.add(base)
    try:
        yield
    finally:
        _busy.discard(base)


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    before: tuple[Any, Any, Any] = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() and torch.cuda.is_initialized() else ()
    cuda = [torch.cuda.get_rng_state(device) for device in devices]
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        for device, state in zip(devices, cuda, strict=True):
            torch.cuda.set_rng_state(state, device)


@contextmanager
def _flags(module: nn.Module) -> Iterator[None]:
    before = [(p, p.requires_grad) for p in module.parameters()]
    try:
        yield
    finally:
        for p, flag in before:
            p.requires_grad_(flag)
            p.grad = None


@contextmanager
def _modes(roots: list[nn.Module]) -> Iterator[None]:
    before = [(module, module.training) for root in roots for module in root.modules()]
    try:
        yield
    finally:
        for module, flag in before:
            module.training = flag


@contextmanager
def _checkpointing(base: Base) -> Iterator[None]:
    """Recompute each layer in the backward pass, and drop nothing out meanwhile.

    Set on the layers themselves: transformers' own switch would also hook the embeddings, and so send gradients
    through every layer below the first that learns.
    """
    own = {"gradient_checkpointing": True, "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False)}
    before: list[tuple[nn.Module, dict[str, Any]]] = []
    base.host.inner.training = True  # modes are put back with all others
    for layer in base.host.layers:
        changed = own | ({"dropout": 0.0} if isinstance(getattr(layer, "dropout", None), float) else {})
        before.append((layer, {name: layer.__dict__.get(name, _ABSENT) for name in changed}))
        layer.training = True
        for name, value in changed.items():
            setattr(layer, name, value)
    try:
        yield
    finally:
        for layer, values in before:
            for name, value in values.items():
                if value is _ABSENT:
                    layer.__dict__.pop(name, None)
                else:
                    setattr(layer, name, value)
