"""DeltaProduct: a matrix memory beside each FFN that is written to as the text is read, and forgotten with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.contracts import ReplacingAdapter, into
from addenda.core.products import product
from addenda.core.site import Anatomy, Seam
from addenda.core.sized import SizedKind

#: sub-steps that are solved together
CHUNK = 64
#: what a fresh gate keeps of the memory at a token is sigmoid(KEEP)
KEEP = 4.0


def delta_scan(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, h: Tensor, starts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What each sub-step reads of the memory [..., T, V], and the memory after the last one [..., K, V]; float32.

    H_t = (I - b_t k_t k_t^T) g_t H_{t-1} + b_t k_t v_t^T, read as H_t^T q_t. CHUNK sub-steps at a time are one unit
    triangular system in the vectors that they write.

    Args:
        q: [..., T, K], what is asked.
        k: [..., T, K], keys of length 1.
        v: [..., T, V], values.
        b: [..., T], from 0, nothing is written, over 1, the value replaces what the key held, to 2.
        g: [..., T], what is kept of the memory, from 0 to 1.
        h: [..., K, V], the memory before.
        starts: [..., T], True where the memory begins anew.
    """
    read: list[Tensor] = []
    for at in range(0, q.shape[-2], CHUNK):
        part = slice(at, at + CHUNK)
        keys, values, strength = k[..., part, :], v[..., part, :], b[..., part, None]
        kept = torch.log(g[..., part].clamp(min=1e-6)).cumsum(-1)
        # what is left at t of what was written at i, and of the memory before
        left = torch.exp((kept[..., :, None] - kept[..., None, :]).tril())
        before = torch.exp(kept)
        if starts is not None:
            documents = starts[..., part].cumsum(-1)
            left = left * (documents[..., :, None] == documents[..., None, :])
            before = before * (documents == 0)
        left, before = left.tril(), before[..., None]
        system = strength * (left * (keys @ keys.mT)).tril(-1)
        written = torch.linalg.solve_triangular(
            system, strength * (values - before * (keys @ h)), upper=False, unitriangular=True
        )
        asked = q[..., part, :]
        read.append(before * (asked @ h) + (left * (asked @ keys.mT)) @ written)
        h = before[..., -1:, :] * h + (left[..., -1, :, None] * keys).mT @ written
    return torch.cat(read, -2), h


class DeltaMemory(ReplacingAdapter):
    """y + W_o H^T q: H, heads matrices [K, V] for each row, takes `steps` delta steps at every token."""

    seam = Seam.FFN
    vanishes = True

    def __init__(self, width: int, heads: int, size: int, steps: int) -> None:
        super().__init__()
        self.shape = heads, steps, size
        self.query = nn.Parameter(torch.randn(heads * size, width) * width**-0.5)
        self.key = nn.Parameter(torch.randn(heads * steps * size, width) * width**-0.5)
        self.value = nn.Parameter(torch.randn(heads * steps * size, width) * width**-0.5)
        self.strength = nn.Parameter(torch.zeros(heads * steps, width))
        self.keep = nn.Parameter(torch.zeros(heads, width))
        self.bias = nn.Parameter(torch.full((heads,), KEEP))
        self.out = nn.Parameter(torch.zeros(width, heads * size))

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weight: float | Tensor = 1.0,
        state: Any = None,
        mask: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """y [R, T, D] plus what the memory tells each token, and the memory [R, heads, K, V] after the last one."""
        heads, steps, size = self.shape
        rows, tokens, x = x.shape[0], x.shape[1], into(x, self.key)

        def told(matrix: Tensor, *ends: int) -> Tensor:  # [R, heads, T, ...]
            return product(x, matrix).float().view(rows, tokens, heads, *ends).transpose(1, 2)

        def stretched(part: Tensor) -> Tensor:  # [R, heads, T * steps, ...]
            return part.flatten(2, 3)

        key, value = (told(matrix, steps, size) for matrix in (self.key, self.value))
        strength = 2.0 * torch.sigmoid(told(self.strength, steps))
        keep = torch.sigmoid(told(self.keep) + self.bias.float()[:, None])
        if mask is not None:  # a pad writes nothing and forgets nothing
            real = mask[:, None]
            strength, keep = strength * real[..., None], torch.where(real, keep, 1.0)
        first = torch.zeros(tokens, steps, dtype=torch.bool, device=x.device)
        first[:, 0] = True
        keep = stretched(torch.where(first, keep[..., None], 1.0))
        begun = None if starts is None else stretched((starts[:, None, :, None] & first).expand(-1, heads, -1, -1))
        query = F.normalize(told(self.query, size), dim=-1)[..., None, :].expand(-1, -1, -1, steps, -1)
        memory = x.new_zeros(rows, heads, size, size, dtype=torch.float32) if state is None else state
        read, memory = delta_scan(
            stretched(query), F.normalize(stretched(key), dim=-1), stretched(value), stretched(strength), keep, memory, begun
        )  # fmt: skip
        read = read.view(rows, heads, tokens, steps, size)[..., -1, :].transpose(1, 2).flatten(2)
        return y + product(into(read, self.out), self.out).to(y.dtype) * weight, memory


@dataclass(frozen=True)
class DeltaProduct(SizedKind):
    """A fast memory beside each FFN: written at every token of the text at hand, by rules that training learns.

    Give `extra`, a share of the base's parameters, or `width`, the width of a head's keys and values. `steps` delta steps
    are taken at each token.

    Source: Siems et al. 2025, "DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
    arXiv:2502.10297: strengths from 0 to 2, gated variant. Differs: beside the FFN of a frozen base, without
    short convolutions, and read with keys of length 1.
    """

    heads: int = 4
    steps: int = 2

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.heads > 0, f"heads must be positive; got {self.heads}")
        self.check(self.steps > 0, f"steps must be positive; got {self.steps}")

    def adapters(self, anatomy: Anatomy) -> Mapping[str, DeltaMemory]:
        """One memory beside the FFN of each layer."""
        size = self.hidden(anatomy, (2 + 2 * self.steps) * self.heads * anatomy.width)
        return {site.key: DeltaMemory(anatomy.width, self.heads, size, self.steps) for site in anatomy.at(Seam.FFN)}
