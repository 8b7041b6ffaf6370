"""MLP Memory: a second opinion on the next token, from blocks that read the base and never touch its body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.contracts import HeadAdapter, into
from addenda.core.products import product
from addenda.core.site import Anatomy, Seam
from addenda.core.sized import SizedKind


class Block(nn.Module):
    """x + W_o( silu(W_g n) * (W_i n) ), n the normalised x."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(2 * hidden, width) * width**-0.5)
        self.down = nn.Parameter(torch.zeros(width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] from [..., D]."""
        gate, value = product(F.rms_norm(x, x.shape[-1:]), self.up).chunk(2, dim=-1)
        return x + product(F.silu(gate) * value, self.down)


class Memory(HeadAdapter):
    """What the blocks make of an input, less the input."""

    vanishes = True

    def __init__(self, width: int, hidden: int, blocks: int, share: float, reads: str) -> None:
        super().__init__()
        self.reads = reads
        self.blocks = nn.ModuleList(Block(width, hidden) for _ in range(blocks))
        self.share: Tensor
        self.register_buffer("share", torch.tensor(share))

    @property
    def device(self) -> torch.device:
        """That of its share."""
        return self.share.device

    def told(self, x: Tensor) -> Tensor:
        """[R, T, D]."""
        start = now = into(x, next(self.blocks.parameters()))
        for block in self.blocks:
            now = block(now)
        return now - start


@dataclass(frozen=True)
class MLPMemory(SizedKind):
    """Blocks beside the base that predict the next token with it: the two distributions are mixed, the body is untouched.

    Give `extra`, a share of the base's parameters, or `width`, hidden units of a block. `share` is the part of the mixture
    that is its own at weight 1; `depth` says where it reads the base, from 0, the first layer, to 1, the last.

    Source: MLP Memory 2025, "MLP Memory: Language Modeling with Retriever-pretrained External Memory",
    arXiv:2508.01832: p = share * p_own + (1 - share) * p_base, read at 70% of the depth. Differs: what the blocks add is
    added to the base's last state and read by the base's own head, so that a fresh one says what the base says; learned
    through the mixture, from the text alone, not from nearest neighbours.
    """

    share: float = 0.3
    blocks: int = 2
    depth: float = 0.7

    seam: ClassVar[Seam] = Seam.HEAD
    default_lr: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0.0 < self.share <= 1.0, f"share is over 0 and at most 1; got {self.share}")
        self.check(self.blocks > 0, f"blocks must be positive; got {self.blocks}")
        self.check(0.0 <= self.depth <= 1.0, f"depth is from 0 to 1; got {self.depth}")

    @property
    def least_weight(self) -> str:
        """A share of a mixture is no less than nothing."""
        return "has a share in a mixture of distributions"

    def adapters(self, anatomy: Anatomy) -> Mapping[str, Memory]:
        """One memory, at the head."""
        (head,) = anatomy.at(Seam.HEAD)
        places = anatomy.at(Seam.FFN) or anatomy.at(Seam.ATTENTION)
        reads = places[round(self.depth * (len(places) - 1))]
        hidden = self.hidden(anatomy, 3 * self.blocks * anatomy.width)
        return {head.key: Memory(anatomy.width, hidden, self.blocks, self.share, reads.key)}
