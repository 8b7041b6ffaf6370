"""Wrappers of torch and accelerate: looked through, so that they change no name, no path and no identity of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn

# what wrapped modules are called inside torch.compile, FSDP and checkpoint wrappers
_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# and inside any wrapper: accelerate, which looks for DeepSpeed on disk at every call, need not be asked about other modules
_INSIDE = _PARTS | {"module"}


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, DDP, DataParallel, FSDP, DeepSpeed and what accelerate prepares, however nested."""
    while isinstance(model, nn.Module) and not _INSIDE.isdisjoint(model._modules):
        inside = extract_model_from_parallel(model, keep_torch_compile=False)
        inside = next((inside._modules[part] for part in _PARTS & inside._modules.keys()), inside) or inside
        if inside is model:
            return model
        model = inside
    return model


def plain_name(name: str) -> str:
    """A dotted name as it is without wrappers."""
    return ".".join(part for part in name.split(".") if part not in _PARTS)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """For a block, parameters that FSDP (its first version) cut into pieces are whole; nothing is written back."""
    with ExitStack() as stack:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

            if any(isinstance(module, FSDP) for module in model.modules()):
                stack.enter_context(FSDP.summon_full_params(model, writeback=False))
        yield
