"""The gate penalty: how far a module's context gate stands open where it should be shut."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gate_penalty(gates: Sequence[Tensor]) -> Tensor:
    """Mean of the gate over the counted tokens; `gates` are scalars as a `Collector` gathers them, one per gate.

    Ours. The local neutrality loss alone can be lowered by making the contribution small where the gate stays open;
    this asks the gate itself to shut.
    """
    return torch.stack(list(gates)).mean() if gates else torch.zeros(())
