"""Products of few tokens with a large matrix: what decoding a batch of several modules mostly is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.modes import compiling

#: up to how many tokens the product from the other side is the faster one, and from how large a matrix on
FEW, LARGE = 4, 2**16


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T, [..., D_out] from x [..., D_in] and W [D_out, D_in].

    On a CPU in float32, two to four tokens are multiplied as W x^T: measured 1.6 to 2.6 times as fast on matrices of three
    and six MB, where rows of a batch with a module each come in twos and threes.
    """
    tokens = x.numel() // max(1, x.shape[-1])
    if (
        2 <= tokens <= FEW
        and weight.numel() >= LARGE
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not compiling()
    ):
        out = (weight @ x.reshape(tokens, -1).contiguous().t()).t().contiguous()
        return out.view(*x.shape[:-1], -1)
    return F.linear(x, weight)
