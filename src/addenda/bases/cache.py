"""Per-row state travels with the key-value cache as one more layer of it, so beams and batches move it along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DummyLayer

from addenda.core.errors import UnsupportedError
from addenda.core.gates import GateState


class StateLayer(DummyLayer):
    """A cache layer without keys that holds each module's per-row state."""

    is_croppable = False
    is_compileable = True

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[Any, GateState] = {}

    def _each(self, change: Any) -> None:
        self.states = {name: change(state) for name, state in self.states.items()}

    def reset(self) -> None:
        """Forget every state."""
        self.states = {}

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder the rows with the beams."""
        self._each(lambda state: state.select(beam_idx.to(state.total.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row in place."""
        self._each(lambda state: state.select(torch.arange(len(state.total)).repeat_interleave(repeats)))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self._each(lambda state: state.select(indices))

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse: a running average cannot be unwound.

        Raises:
            UnsupportedError: always, unless nothing is to be removed or there is no state.
        """
        if tokens_to_remove != 0 and self.states:
            raise UnsupportedError(
                "a cache that carries a context gate's running average cannot be cropped (assisted generation does); "
                "generate without an assistant, or turn the module off"
            )


def states_in(cache: Any) -> dict[Any, GateState]:
    """The states that travel with a cache; none for no cache."""
    layer = _layer(cache)
    return {} if layer is None else dict(layer.states)


def keep_states(cache: Any, states: dict[Any, GateState]) -> None:
    """Let `states` travel with `cache` from now on."""
    if not states or not isinstance(cache, Cache):
        return
    layer = _layer(cache)
    if layer is None:
        layer = StateLayer()
        cache.layers.append(layer)
    layer.states = {**layer.states, **states}


def _layer(cache: Any) -> StateLayer | None:
    layers = getattr(cache, "layers", None) or []
    return next((layer for layer in reversed(layers) if isinstance(layer, StateLayer)), None)
