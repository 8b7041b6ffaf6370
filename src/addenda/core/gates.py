"""Gates that training asks to tell subject from replay: a whole module's, read early, or an adapter's own, per token.

The gate of a whole module is averaged over the document so far.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from addenda.core.contracts import AddingAdapter

#: how many tokens of score -1 stand before each document, once trained
PRIOR = 16.0


class ClassifyingAdapter(AddingAdapter):
    """An adding adapter with a score per token that training teaches, by cross-entropy, to tell subject from replay."""

    @abstractmethod
    def classified(self, x: Tensor) -> Tensor:
        """The score [R, T] for x [R, T, D_in]: the log-odds that a token is of the subject."""


class GateState(NamedTuple):
    """Running sum and count of gate scores of the current document, float32 [R] each; rows come first."""

    total: Tensor
    counted: Tensor

    def select(self, rows: Tensor) -> GateState:
        """The state of other rows, in the order given: beams reorder, batches repeat."""
        rows = rows.to(self.total.device)
        return GateState(self.total.index_select(0, rows), self.counted.index_select(0, rows))


class ContextGate(nn.Module):
    """g_t = relu(a_t - threshold), a_t the mean of w . x_i + b over the document's tokens i <= t and `prior` tokens of -1.

    Subjects persist over a document, so a running average tells them apart where single tokens cannot. Where the gate
    is shut the module contributes nothing at any layer. `w` starts at zero and `b` at one: a fresh gate is open and
    has a gradient. The threshold is a buffer, set by calibration on general text after training.

    `prior` is a buffer too: zero when fresh, PRIOR once training asks the gate to tell subject from replay. Documents
    then begin as if they had said so many tokens of something else. A plain average is mostly noise over its first
    tokens, opens on some of them in nearly every document, and attention carries the difference to all tokens after:
    measured on tiny's layer 2, under a threshold that leaves 90% of general tokens bit-equal a plain average was open on
    34% of medical tokens, with the prior on 90%.

    Ours; the token gate it generalises is that of Neutral Residues (arXiv 2410.02744).
    """

    def __init__(self, site: str, layer: int, width: int) -> None:
        super().__init__()
        self.site, self.layer = site, layer
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.ones(()))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float32))
        self.register_buffer("prior", torch.zeros((), dtype=torch.float32))
        self.threshold: Tensor
        self.prior: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """One score per token: [R, T] float32 from x [R, T, D]."""
        return (
            torch.mv(x.to(self.weight.dtype).reshape(-1, x.shape[-1]), self.weight).view(x.shape[:-1]) + self.bias
        ).float()

    def forward(
        self, x: Tensor, state: GateState | None = None, mask: Tensor | None = None, documents: Tensor | None = None
    ) -> tuple[Tensor, GateState]:
        """The gate before its relu [R, T, 1], zero on pads, and the state after the last token.

        Args:
            x: input of the gate's site [R, T, D].
            state: running sum and count so far; None at a start.
            mask: [R, T], False on pads, which do not count.
            documents: [R, T] ids; where the id changes along a row the average restarts. None: one document a row,
                going on from `state`.
        """
        real = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
        scores = torch.where(real, self.scores(x), 0.0)
        total, count = scores.cumsum(1), real.float().cumsum(1)
        if documents is not None:
            start = _start(documents)
            total, count = _within(total, start), _within(count, start)
        elif state is not None:
            total, count = total + state.total[:, None], count + state.counted[:, None]
        score = torch.where(real, (total - self.prior) / (count + self.prior).clamp(min=1.0) - self.threshold, 0.0)
        return score.unsqueeze(-1), GateState(total[:, -1], count[:, -1])

    def terms(self, x: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """What the score is linear in, [R, T, D + 1] for the weight and then the bias, and what is added to it [R, T].

        Args:
            x: input of the gate's site [R, T, D].
            documents: [R, T] ids, as for `forward`.
        """
        start = _start(documents)
        ones = torch.cat([x.float(), torch.ones_like(x[..., :1], dtype=torch.float32)], -1)
        sums = _within(ones.cumsum(1), start)
        counted = (sums[..., -1:] + self.prior).clamp(min=1.0)
        return sums / counted, (-self.prior / counted).squeeze(-1)


def _start(documents: Tensor) -> Tensor:
    """For each token, the position [R, T] at which its document starts in the row."""
    new = torch.ones_like(documents, dtype=torch.bool)
    new[:, 1:] = documents[:, 1:] != documents[:, :-1]
    position = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    return torch.where(new, position, 0).cummax(1).values


def _within(running: Tensor, start: Tensor) -> Tensor:
    """Sums over the document so far, from sums over the row so far [R, T] or [R, T, D]."""
    before = torch.cat([torch.zeros_like(running[:, :1]), running[:, :-1]], 1)
    if running.dim() == 3:
        start = start.unsqueeze(-1).expand_as(running)
    return running - before.gather(1, start)
