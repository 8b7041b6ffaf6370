"""The gate penalty: how far a module's gates stand open off its subject, and shut on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gate_penalty(gates: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Mean over gates of two parts: one on replay tokens, where it should be shut, and one on the subject's.

    With s the gate's score, a context gate is asked for two hinges, relu(1 + s) and relu(1 - s); a sigmoid gate for the
    cross-entropy of the two, softplus(s) and softplus(-s).

    Args:
        gates: for each gate the two means [2] that a `Collector` gathers.
        scale: what each mean counts for in the whole step [2].

    Source: the cross-entropy is that of the gate with which Neutral Residues is compared, arXiv:2410.02744; here both means
    count alike, however many tokens each has.

    The hinges are ours. The local neutrality loss alone can be lowered by making the contribution small where the gate stays
    open; this asks the gate itself to tell the two apart. Asking only that it shut on replay shuts it everywhere when the
    learning rate is high: the module's first contributions are too small to hold it open, and a gate that is shut has
    no gradient (measured: no gain at all at rates from 3e-3 on).
    """
    return (torch.stack(list(gates)).mean(0) * scale).sum() if gates else torch.zeros(())
