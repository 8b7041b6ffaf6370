"""Several processes, one run: each takes its rows of every batch, and gradients are added up.

Started by `torchrun`; a single process needs none of it. The base's layers may be sharded, before `attach`, with
`fully_shard(layer, reshard_after_forward=True)`; embeddings, head and the module's own parameters stay whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor, nn


def processes_of() -> int:
    """How many processes a run will have: those of the group that it is in, else those that torchrun speaks of."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


class Processes:
    """The processes of a run. As a context manager it joins the group that torchrun describes, and leaves it after.

    `device` is the base's: what is sent lies there, so it decides between NCCL and gloo.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.rank, self.size = 0, 1
        self._own = False

    def __enter__(self) -> Processes:
        if not dist.is_available():
            return self
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ and not dist.is_initialized():
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self._own = True
        if dist.is_initialized():
            self.rank, self.size = dist.get_rank(), dist.get_world_size()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give everyone the first process's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum every gradient over the processes; one message for all parameters of a dtype."""
        if self.size == 1:
            return
        chosen = [p for p in parameters if p.requires_grad]
        for p in chosen:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([p.grad.flatten() for p in chosen if p.grad is not None])
        dist.all_reduce(flat)
        at = 0
        for p in chosen:
            assert p.grad is not None
            p.grad.copy_(flat[at : at + p.numel()].view_as(p))
            at += p.numel()

    def sum(self, values: Tensor) -> Tensor:
        """Sum a small tensor over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether any process says so: all then stop after the same step."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)).item())

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()
