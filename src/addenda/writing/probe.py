"""A probe: a few tokens, kept with a written module, by which others can check that it is really on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of a probe
PROBE_TOKENS = 32


@torch.no_grad()
def probe_of(base: Base, name: str, rows: Iterable[np.ndarray]) -> list[int] | None:
    """The first tokens of some row of ids on which the module changes the logits; None where it is silent on all."""
    device = base.device
    for row in rows:
        ids = torch.from_numpy(row[:PROBE_TOKENS].astype(np.int64))[None].to(device)
        with base.off():
            bare = base.model(input_ids=ids, use_cache=False).logits
        with base.using({name: 1.0}):
            if not torch.equal(bare, base.model(input_ids=ids, use_cache=False).logits):
                return ids[0].tolist()
    return None
