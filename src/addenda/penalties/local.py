"""The local neutrality loss: how much a module changes its sites' outputs where it should not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def local_penalty(deltas: Sequence[Tensor], sites: int) -> Tensor:
    """Mean over sites of the mean absolute contribution over tokens and width.

    Args:
        deltas: one scalar for each site that contributed, as a `Collector` gathers them: the mean over the counted
            tokens of the mean absolute contribution over the width, in units of the residual stream.
        sites: how many sites the module has; those that contributed nothing count as zero.

    Source: the l_local of Neutral Residues, arXiv:2410.02744: the L1 norm divided by the model's width, over all
    layers, on tokens of the original distribution. Differs: defined for every kind; attention kinds count what their
    slots change in the attention output.
    """
    return torch.stack(list(deltas)).sum() / sites if deltas else torch.zeros(())
