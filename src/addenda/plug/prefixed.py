"""Scoring of many texts that begin alike: what they have in common is read once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from addenda.core.modes import evaluating, own_modes
from addenda.objectives.head import Head
from addenda.objectives.objective import likelihood
from addenda.telling.progress import tick
from addenda.text.encoding import Encoded

if TYPE_CHECKING:
    from addenda.plug.frozen import Frozen


def common_prefix(documents: Sequence[Encoded]) -> int:
    """How many tokens texts have in common at their beginning, of those before the first that counts."""
    shortest = min(int(np.flatnonzero(one.weights[1:])[0]) for one in documents)
    first = documents[0].ids[:shortest]
    for one in documents[1:]:
        differing = np.flatnonzero(one.ids[: len(first)] != first)
        first = first[: differing[0]] if len(differing) else first
    return len(first)


@own_modes()
@torch.no_grad()
def score_alike(base: Frozen, head: Head, documents: Sequence[Encoded], batch_tokens: int = 4096) -> list[float]:
    """The nats of what counts in each text, as the base is selected; texts are padded to the longest of a batch.

    Args:
        base: the base.
        head: of its model.
        documents: each with a token that counts, none longer than the base's window; best of like length.
        batch_tokens: of a batch, padding counted, without the common beginning.
    """
    shared = common_prefix(documents)
    found: list[float] = []
    with evaluating(base.model):
        cache = (
            head.cache(torch.from_numpy(documents[0].ids[None, :shared].astype(np.int64)).to(base.device))
            if shared
            else None
        )
        rows = max(1, batch_tokens // max(len(one.ids) - shared for one in documents))
        for start in range(0, len(documents), rows):
            found += _batch(base, head, documents[start : start + rows], shared, cache)
    return found


def _batch(base: Frozen, head: Head, documents: Sequence[Encoded], shared: int, cache: Any) -> list[float]:
    width = max(len(one.ids) for one in documents) - shared - 1
    ids = torch.zeros(len(documents), width, dtype=torch.long)
    targets, weights, mask = torch.zeros_like(ids), torch.zeros(len(documents), width), torch.zeros_like(ids)
    for row, one in enumerate(documents):
        own = torch.from_numpy(one.ids[shared:].astype(np.int64))
        end = len(own) - 1
        ids[row, :end], targets[row, :end], mask[row, :end] = own[:-1], own[1:], 1
        weights[row, :end] = torch.from_numpy(one.weights[shared + 1 :].astype(np.float32))
    inputs: dict[str, Any] = {}
    if cache is not None:
        held = copy.deepcopy(cache)
        held.batch_repeat_interleave(len(documents))
        mask = torch.cat([torch.ones(len(documents), shared, dtype=torch.long), mask], 1)
        inputs = {"past_key_values": held, "use_cache": True}
    device = base.device
    hidden = head.hidden(ids.to(device), attention_mask=mask.to(device), **inputs)
    flat = weights.flatten().to(device)
    _, costs = head.costs(likelihood(), hidden.flatten(0, 1), targets.flatten().to(device), flat)
    tick()
    return costs.view(weights.shape).double().sum(1).tolist()
