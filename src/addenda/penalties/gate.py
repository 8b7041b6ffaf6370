"""The gate penalty: how far a module's context gate stands open off its subject, and shut on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gate_penalty(gates: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Sum of the two hinges, relu(1 + s) on replay tokens and relu(1 - s) on the subject's, s being the gate's score.

    Args:
        gates: for each gate the two means [2] that a `Collector` gathers.
        scale: what each mean counts for in the whole step [2].

    Ours. The local neutrality loss alone can be lowered by making the contribution small where the gate stays open;
    this asks the gate itself to tell the two apart. Asking only that it shut on replay shuts it everywhere when the
    learning rate is high: the module's first contributions are too small to hold it open, and a gate that is shut has
    no gradient (measured: no gain at all at rates from 3e-3 on).
    """
    return (torch.stack(list(gates)).mean(0) * scale).sum() if gates else torch.zeros(())
