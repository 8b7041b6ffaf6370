"""Cost: what a request takes with a method, over the bare base: prefill and decoding in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.state import evaluating

if TYPE_CHECKING:
    from addenda.plugging import Base

PROMPT, DECODED = 128, 16
On = Callable[[], AbstractContextManager[Any]]


@torch.no_grad()
def ratios(base: Base, on: On, off: On, ids: Tensor, ahead: int, pairs: int, model: Any = None) -> tuple[float, float]:
    """Time of prefill and of a decoded token with a method, over the bare base's: medians of pairs taken in turn.

    Args:
        base: the base.
        on: selects the method for a block.
        off: selects nothing.
        ids: a prompt [T].
        ahead: tokens that the method puts ahead of it.
        pairs: timed in turn.
        model: what runs where the method changed the model itself; default: the base's.
    """
    long = torch.cat([ids.repeat(-(-ahead // len(ids)))[:ahead], ids]) if ahead else ids
    taken: list[tuple[float, float]] = []
    for number in range(pairs + 1):  # the first is not counted
        with off():
            bare = _times(base.model, ids[None].to(base.device))
        with on():
            ours = _times(model or base.model, long[None].to(base.device))
        if number:
            taken.append((ours[0] / bare[0], ours[1] / bare[1]))
    return median(a for a, _ in taken), median(b for _, b in taken)


def _times(model: Any, ids: Tensor) -> tuple[float, float]:
    """Seconds of reading the prompt, and of each token after it."""
    with evaluating(model):
        _wait(ids)
        began = time.perf_counter()
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        _wait(ids)
        read = time.perf_counter()
        for _ in range(DECODED):
            token = out.logits[:, -1:].argmax(-1)
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        _wait(ids)
    return read - began, (time.perf_counter() - read) / DECODED


def _wait(ids: Tensor) -> None:
    if ids.device.type == "cuda":
        torch.cuda.synchronize(ids.device)
