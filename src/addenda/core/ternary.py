"""Ternary numbers: each row a scale times {-1, 0, 1}; a gradient that looks through the rounding; five to a byte."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: numbers of a byte: 3^5 = 243 of its 256 values, 1.6 bits a number where log2 3 = 1.585 is the least there can be
FIVE = 5
#: how often scale and rounding are fitted to each other; each time the squared error falls or stays
ROUNDS = 8


def rounded(rows: Tensor, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Signs {-1, 0, 1} [F, D] and scale [F] of rows [F, D], in their dtype.

    With no rounds s = mean |w| and signs = clip(round(w / s), -1, 1), as published. Each round then sets s to the best one
    for the signs, <w, signs>/<signs, signs>, and rounds anew (Lloyd's algorithm).
    """
    scale = rows.abs().mean(dim=-1)
    signs = _signs(rows, scale)
    for round_ in range(rounds):
        if round_:
            signs = _signs(rows, scale)
        scale = (rows * signs).sum(dim=-1) / signs.abs().sum(dim=-1).clamp(min=1.0)
    return signs, scale


def _signs(rows: Tensor, scale: Tensor) -> Tensor:
    least = torch.finfo(rows.dtype).tiny  # a row of zeros stays one
    return (rows / scale.clamp(min=least)[:, None]).round().clamp(-1, 1)


def through(rows: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Rows [F, D] rounded to ternary ones, with the gradient of rows that are not (straight-through)."""
    with torch.no_grad():
        signs, scale = rounded(rows, rounds)
        change = signs * scale[:, None] - rows
    return rows + change


def packed_width(width: int) -> int:
    """Bytes of a row of so many numbers."""
    return -(-width // FIVE)


def pack(signs: Tensor) -> Tensor:
    """Signs {-1, 0, 1} [F, D] as uint8 [F, ceil(D/5)], the first of five the lowest digit."""
    missing = packed_width(signs.shape[-1]) * FIVE - signs.shape[-1]
    digits = F.pad(signs, (0, missing)).to(torch.int16).view(len(signs), -1, FIVE) + 1
    places = torch.tensor([3**place for place in range(FIVE)], dtype=torch.int16, device=signs.device)
    return (digits * places).sum(-1).to(torch.uint8)


def unpack(codes: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Signs [F, width] in `dtype`, of codes [F, ceil(width/5)]; any byte gives some: nothing needs checking."""
    digits = [codes // 3**place % 3 for place in range(FIVE)]
    return torch.stack(digits, dim=-1).flatten(-2)[..., :width].to(dtype) - 1
