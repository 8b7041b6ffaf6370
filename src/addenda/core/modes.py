"""Modes of torch around a block: compiled or not, in evaluation, as if the caller had set none."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def compiling() -> bool:
    """True while torch.compile traces this code."""
    return torch.compiler.is_compiling()


def readable(x: Tensor) -> bool:
    """Whether a tensor's values may decide what runs: on a CPU, where looking costs nothing, and not in a compiled graph.

    A GPU would have to be waited for; there everything is computed, and masked.
    """
    return x.device.type == "cpu" and not compiling()


class _Eager:
    """How many blocks of all threads want eager code now, and torch's stance while any does: it is one for all threads."""

    lock = threading.Lock()
    blocks = 0
    stance: Any = None


@contextmanager
def eagerly() -> Generator[None]:
    """Compiled models run as they are written in a block: their code sees no hook that came after it.

    torch's stance is one for all threads. The first block sets it and the last puts it back: were each to put back what it
    found, two that overlap would leave every model eager for good.
    """
    with _Eager.lock:
        if _Eager.blocks == 0:
            _Eager.stance = torch.compiler.set_stance("force_eager")
            _Eager.stance.__enter__()
        _Eager.blocks += 1
    try:
        yield
    finally:
        with _Eager.lock:
            _Eager.blocks -= 1
            if _Eager.blocks == 0:
                _Eager.stance.__exit__(None, None, None)
                _Eager.stance = None


@contextmanager
def own_modes(*, device: bool = True) -> Generator[None]:
    """For what outlives the call that needs it first: computed and moved as if the caller had set no mode.

    Under a caller's inference mode a tensor could never be trained through; under its autocast it would stay rounded; under
    its default dtype or device it would be of another precision, or nowhere. Whether gradients are recorded stays the caller's.
    torch keeps one default dtype for all threads: where it is not float32, others see float32 until the block ends.

    Args:
        device: False: new tensors go where the caller's default device says.
    """
    recording, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(recording))  # leaving inference mode would switch it on
        for kind in ("cpu", "cuda", "xpu", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if dtype is not torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if device and torch.get_default_device().type != "cpu":  # a default device slows every call into torch
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """The model in evaluation mode for a block; every submodule's mode is put back after."""
    before = [(module, module.training) for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module, flag in before:
            module.training = flag
