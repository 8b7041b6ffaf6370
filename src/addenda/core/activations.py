"""Activation functions of FFNs, by the names that transformers' configurations use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

_tanh = partial(F.gelu, approximate="tanh")


def _quick(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_KNOWN: dict[str, Activation] = {
    "gelu": F.gelu,
    "gelu_fast": _tanh,
    "gelu_new": _tanh,
    "gelu_pytorch_tanh": _tanh,
    "quick_gelu": _quick,
    "relu": torch.relu,
    "silu": F.silu,
    "swish": F.silu,
}


def activation(name: str) -> Activation | None:
    """The function of that name; None where it is not known here."""
    return _KNOWN.get(name)
