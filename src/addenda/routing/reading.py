"""Prompts read by the bare base, once for all modules: what a router keeps of each, module by module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from addenda.core.modes import own_modes
from addenda.core.module import KnowledgeModule
from addenda.routers.router import Router
from addenda.telling.progress import tick

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of one batch, pads too
PASS = 4096


def features_of(
    base: Base, prompts: Sequence[Tensor], router: Router, modules: Sequence[KnowledgeModule]
) -> list[Tensor]:
    """What the router keeps of prompts, token ids [T] each, for each module: [B, n], float32 on the CPU, in their order.

    Pads stand on the right, where no token of a prompt sees them; so each prompt is read as if it were alone, but for rounding.

    Raises:
        AddendaError: the router cannot read for a module.
    """
    asked = [list(router.sites(module, base.anatomy)) for module in modules]
    sites = [base.host.site(key) for key in dict.fromkeys(key for keys in asked for key in keys)]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    back = torch.tensor(order).argsort()
    parts: list[list[Tensor]] = [[] for _ in modules]
    with own_modes(), torch.no_grad():
        for rows in _batches([prompts[number] for number in order]):
            ids = pad_sequence(rows, batch_first=True)
            mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
            seen = base.reader.entries(sites, ids)
            for module, keys, part in zip(modules, asked, parts, strict=True):
                part.append(router.features(module, {key: seen[key] for key in keys}, mask).float().cpu())
            tick(int(mask.sum()))
    return [torch.cat(part)[back] for part in parts]


def _batches(rows: list[Tensor]) -> Iterator[list[Tensor]]:
    """Rows in order of length, as many at a time as fit a pass."""
    start = 0
    for end, row in enumerate(rows):
        if (end + 1 - start) * len(row) > PASS and end > start:
            yield rows[start:end]
            start = end
    yield rows[start:]
