"""Modes of torch around a block: compiled or not, in evaluation, as if the caller had set none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

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


@contextmanager
def own_modes() -> Generator[None]:
    """For what outlives the call that needs it first: computed and moved as if the caller had set no mode.

    Under a caller's inference mode a tensor could never be trained through; under its autocast it would stay rounded.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda", "xpu", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
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
