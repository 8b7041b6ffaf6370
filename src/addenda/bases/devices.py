"""Devices by name: the one of this process, and whether anything can be computed there."""

from __future__ import annotations

import os
import textwrap
import warnings

import torch

from addenda.core.errors import AddendaError, TrainingError


def own_device(device: str | torch.device) -> torch.device:
    """The device that a name stands for in this process: under torchrun, plain `cuda` is a GPU of its own.

    That GPU also becomes the current one, on which NCCL works and everything put on plain `cuda` later lands. A device
    with a number is taken as it is. To be called before the base is loaded or moved.

    Raises:
        TrainingError: this machine has fewer GPUs than processes.
    """
    place, rank = torch.device(device), os.environ.get("LOCAL_RANK")
    if place.type != "cuda" or place.index is not None or rank is None:
        return place
    count = torch.cuda.device_count()
    if int(rank) >= count:
        raise TrainingError(
            f"process {rank} has no GPU of its own, {count} can be seen; start no more processes than GPUs, or name one"
        )
    torch.cuda.set_device(int(rank))
    return torch.device("cuda", int(rank))


def usable_device(device: str | torch.device) -> torch.device:
    """The device of this process that a name stands for, on which something can be computed.

    Raises:
        AddendaError: nothing can be computed there; says why in one line.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            place = own_device(device)
            torch.zeros(1, device=place).item()
    except Exception as error:  # every backend has its own way to be absent, and some go on for pages about it
        reason = textwrap.shorten(str(error).split(". ")[0], 160, placeholder="…")
        raise AddendaError(f"device '{device}' cannot be used: {reason}") from error
    return place
