"""Per-row state travels with the key-value cache as one more layer of it, so beams and batches move it along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DummyLayer

from addenda.core.errors import UnsupportedError
from addenda.core.state import RowStates, extend_states, extract_states


class StateLayer(DummyLayer):
    """A cache layer without keys that holds the per-row state of modules: of their gates, of replacing adapters."""

    is_croppable = False
    is_compileable = True

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[Any, Tensor | RowStates] = {}
        self.batch = 0

    def _select(self, rows: Tensor) -> None:
        self.states = extract_states(self.states, rows)
        self.batch = len(rows)

    def extend(self, other: StateLayer) -> None:
        """Put the rows of another cache behind these."""
        self.states = extend_states(self.states, self.batch, other.states, other.batch)
        self.batch += other.batch

    def reset(self) -> None:
        """Forget every state."""
        self.states = {}

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder the rows with the beams."""
        self._select(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row in place."""
        self._select(torch.arange(self.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self._select(indices)

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse: state cannot be unwound.

        Raises:
            UnsupportedError: always, unless nothing is to be removed or there is no state.
        """
        if tokens_to_remove != 0 and self.states:
            raise UnsupportedError(
                "a cache that carries the state of a gate, or other state of a module, cannot be cropped "
                "(assisted generation does); generate without an assistant, or turn the module off"
            )


def states_in(cache: Any) -> dict[Any, Any]:
    """The states that travel with a cache; none for no cache."""
    layer = _layer(cache)
    return {} if layer is None else dict(layer.states)


def keep_states(cache: Any, states: dict[Any, Any], batch: int) -> None:
    """Let `states` of a batch of so many rows travel with `cache` from now on."""
    if not states or not isinstance(cache, Cache):
        return
    layer = _layer(cache)
    if layer is None:
        layer = StateLayer()
        cache.layers.append(layer)
    layer.states = {**layer.states, **states}
    layer.batch = batch


def _layer(cache: Any) -> StateLayer | None:
    layers = getattr(cache, "layers", None) or []
    return next((layer for layer in reversed(layers) if isinstance(layer, StateLayer)), None)
