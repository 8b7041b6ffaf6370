"""The work that is timed: a decode step, a prefill, a training step, each on any model under any selection."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from addenda.core.call import Collector
from addenda.optimizers.adamw import adamw
from addenda.penalties.gate import gate_penalty
from addenda.penalties.local import local_penalty
from addenda.plug.base import Base
from benchmarks.timing import Step, whole

#: opens the selection under which a step runs
Under = Callable[[], AbstractContextManager[Any]]


def decode(model: Any, ids: Tensor, prompt: int, under: Under = nullcontext) -> Step:
    """One unit is one cached forward of one token a row; the tokens are given, `ids` [B, T], the first `prompt` cached."""
    with torch.no_grad(), under():
        start = DynamicCache(config=model.config)
        model(input_ids=ids[:, :prompt], past_key_values=start, use_cache=True, logits_to_keep=1)

    def tokens(cache: Any, clock: Callable[[], float]) -> Iterator[float]:
        for at in range(prompt, ids.shape[1]):
            with torch.no_grad(), under():  # as in `generate`, opening the selection is no part of a step
                began = clock()
                model(input_ids=ids[:, at : at + 1], past_key_values=cache, use_cache=True, logits_to_keep=1)
                took = clock() - began
            yield took

    return Step(tokens, lambda: copy.deepcopy(start), ids.shape[1] - prompt)


def prefill(model: Any, ids: Tensor, under: Under = nullcontext) -> Step:
    """One forward of `ids` [B, T] into an empty cache, with the logits of the last token, as `generate` does it."""

    def run(cache: Any) -> None:
        with torch.no_grad(), under():
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    return whole(run, lambda: DynamicCache(config=model.config))


def train(model: Any, parameters: Iterable[nn.Parameter], ids: Tensor) -> Step:
    """Forward, backward and AdamW over `parameters`, the loss being the model's own over `ids` [B, T]."""
    return _training(list(parameters), lambda: model(input_ids=ids, labels=ids, use_cache=False).loss)


def train_module(base: Base, name: str, ids: Tensor, replay: int = 0) -> Step:
    """The same for a plugged module; the last `replay` rows of `ids` [B, T] are replay.

    On these the penalties are put that `addenda.train` puts by default: the kind's local loss, and the gate's hinges.
    """
    module = base.modules[name]
    share, sites = torch.zeros(ids.shape), len(list(module.sites()))
    share[len(ids) - replay :] = 1.0

    def loss() -> Tensor:
        collector = Collector(share, 1.0 - share) if replay else None
        with base.using(name), base.watching(collector=collector):
            value = base.model(input_ids=ids, labels=ids, use_cache=False).loss
        if collector is None:
            return value
        value = value + module.kind.default_local * local_penalty(collector.deltas.get(name, []), sites)
        return value + gate_penalty(collector.gates.get(name, ()), torch.ones(2))

    return _training(list(module.parameters()), loss)


def _training(parameters: list[nn.Parameter], loss: Callable[[], Tensor]) -> Step:
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = adamw(parameters, lr=1e-9)  # so small that live shares stay as they were set

    def run(_: Any) -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return whole(run)
