"""Cost: what a request takes with a method, over the bare base: prefill and decoding in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda.comparing.window import Ahead
from addenda.core.modes import evaluating
from addenda.telling.intervals import DRAWS, Interval, widening

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens written after the prompt
DECODED = 16
On = Callable[[], AbstractContextManager[Any]]


@torch.no_grad()
def ratios(
    base: Base, on: On, off: On, ids: Tensor, ahead: Ahead | None, pairs: int, model: Any = None
) -> tuple[list[float], list[float]]:
    """Times [pairs] of prefill, and of a decoded token, with a method, over the bare base's, which is timed in turn.

    Args:
        base: the base.
        on: selects the method for a block.
        off: selects nothing.
        ids: a prompt [T].
        ahead: finds what the method reads ahead of it; to find it is part of the prefill.
        pairs: timed in turn.
        model: what runs where the method changed the model itself; default: the base's.
    """
    taken: list[tuple[float, float]] = []
    for number in range(pairs + 1):  # the first is not counted
        with off():
            bare = _times(base.model, ids, None, base.device)
        with on():
            ours = _times(model or base.model, ids, ahead, base.device)
        if number:
            taken.append((ours[0] / bare[0], ours[1] / bare[1]))
    return [a for a, _ in taken], [b for _, b in taken]


def of_median(values: Sequence[float]) -> Interval:
    """The median of timed ratios with its 95% interval, by bootstrap over the repeats, widened where these are few."""
    numbers = np.asarray(values, float)
    value = float(np.median(numbers))
    if len(numbers) < 2:
        return Interval(value, value, value, len(numbers))
    drawn = np.random.default_rng(0).integers(len(numbers), size=(DRAWS, len(numbers)))
    ends = np.quantile(np.median(numbers[drawn], axis=1), [0.025, 0.975])
    low, high = value + widening(len(numbers)) * (ends - value)
    return Interval(value, max(0.0, float(low)), float(high), len(numbers))


def _times(model: Any, ids: Tensor, ahead: Ahead | None, device: Any) -> tuple[float, float]:
    """Seconds of finding what is read ahead and reading it with the prompt, and of each token after it."""
    with evaluating(model):
        _wait(device)
        began = time.perf_counter()
        prefix = (
            torch.zeros(0, dtype=ids.dtype) if ahead is None else torch.from_numpy(ahead(ids.numpy())).to(ids.dtype)
        )
        row = torch.cat([prefix, ids])[None].to(device)
        out = model(input_ids=row, use_cache=True, logits_to_keep=1)
        _wait(device)
        read = time.perf_counter()
        for _ in range(DECODED):
            token = out.logits[:, -1:].argmax(-1)
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        _wait(device)
    return read - began, (time.perf_counter() - read) / DECODED


def _wait(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
