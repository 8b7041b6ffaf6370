"""FFN-Skip: FFNs that would hardly turn a token's residual stream are left out for it, so that the base reads faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.contracts import AroundAdapter, Kind, Own, Reader
from addenda.core.errors import AddendaError
from addenda.core.site import Anatomy, Seam

#: a cosine that none reaches: nothing is left out
NEVER = 2.0
#: notes: a token that nothing is left out for; one whose FFNs are left out from here on
EARLY, ALL = -1, 2**15 - 1


def skipped(similarities: Tensor, least: Tensor | float, span: int) -> Tensor:
    """Which FFNs are left out [S, T], from cosines before and after each of S [S, T], as they are where none is."""
    left, out = torch.zeros_like(similarities[0], dtype=torch.long), []
    for similarity in similarities:
        skip = left > 0
        out.append(skip)
        left = torch.where(skip, left - 1, (similarity >= least) * span)
    return torch.stack(out)


class SkippingFFN(AroundAdapter):
    """The FFN of a layer where the layers below did not say that it may be left out; says so for those above.

    Its note [R, T] is a number of FFNs to leave out, or EARLY. The state, of the first site alone, is the number of tokens
    so far of each row's document.
    """

    def __init__(self, width: int, *, measures: bool, span: int, spare: int) -> None:
        super().__init__()
        self.span, self.spare = span, spare
        #: what stands in for an FFN that is left out; the first site only measures
        self.stand_in = None if measures else nn.Parameter(torch.zeros(width))
        self.least: Tensor
        self.register_buffer("least", torch.tensor(NEVER))

    @property
    def device(self) -> torch.device:
        """That of its threshold."""
        return self.least.device

    @property
    def dtype(self) -> torch.dtype:
        """That of its threshold."""
        return self.least.dtype

    def around(
        self,
        x: Tensor,
        residual: Tensor,
        base: Own,
        *,
        note: Tensor | None = None,
        state: Tensor | None = None,
        mask: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The FFN's output [R, T, D], what stands in for it on tokens whose note says so; the note; the count [R, 1]."""
        count = None
        if note is None:
            position, count = _positions(x, state, mask, starts)
            note = torch.where(position < self.spare, EARLY, 0).to(torch.int16)
        skip = note > 0
        if self.stand_in is None:
            y = base()
        else:
            y = base(~skip)
            y = torch.where(skip.unsqueeze(-1), self.stand_in.to(y.dtype), y)
        with torch.no_grad():
            similarity = _similarity(residual, residual + base.added(y))
            told = torch.where(similarity >= self.least, self.span, 0).to(note.dtype)
            left = torch.where(skip, note if self.span == ALL else note - 1, told)
            return y, torch.where(note == EARLY, note, left), count


def _similarity(before: Tensor, after: Tensor) -> Tensor:
    return F.cosine_similarity(before.float(), after.float(), dim=-1)


def _positions(x: Tensor, state: Tensor | None, mask: Tensor | None, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """The place of each token in its document [R, T], and how many tokens each row's last document has so far [R, 1]."""
    real = torch.ones(x.shape[:2], dtype=torch.long, device=x.device) if mask is None else mask.long()
    after = real.cumsum(1) if state is None else state + real.cumsum(1)
    before = after - real
    if starts is not None:  # what was read of earlier documents does not count
        begun = torch.where(starts, before, 0).cummax(1).values
        before, after = before - begun, after - begun
    return before, after[:, -1:]


@dataclass(frozen=True)
class FFNSkip(Kind):
    """Leaves out, token by token, FFNs of the middle layers: where one has hardly turned the residual stream, those above it.

    Text says where that is (`new(..., text=)`, or the first `train` call): the least cosine at which `skip` of the FFNs of
    its middle layers are left out. Before that nothing is. The `first` and `last` layers of the base always run theirs,
    and so do the `spare` first tokens of a document. Keys and values are computed for every token. `span` is how many FFNs
    are left out before one is run and measured again; None: all up to the last layers. Training learns a vector for each
    layer that stands in for what is left out, at first zero. On a CPU a selection of it alone, for all rows, saves the work;
    else it is computed and masked.

    Source: Jaiswal et al. 2024, "FFN-SkipLLM: A Hidden Gem for Autoregressive Decoding with Adaptive Feed Forward Skipping",
    arXiv:2404.03865. Differs: the threshold is found from a share of FFNs on text; vectors may stand in; built from its
    description, for there is no code.

    Measured: on `smollm2` and WikiText-2, one seed, loss rises by 0.25 nats with 8.9% of all FFNs left out and by 0.46 with
    14.9%; leaving the FFNs of whole layers out of every token costs 0.52 at 10% and 1.52 at 16.7%. With `span=None` it costs
    1.73 at 10%; 4,096 tokens of training take off 0.12 of that. No time is saved on one core: reading takes 1.03 to 1.13 times
    as long, decoding 1.02 to 1.26 times. A base this small has no FFN that may be left out for nothing.
    """

    skip: float = 0.25
    first: int = 2
    last: int = 2
    spare: int = 4
    span: int | None = 1

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        self.check(0.0 < self.skip < 1.0, f"skip is over 0 and under 1; got {self.skip}")
        self.check(self.first >= 1, f"first is at least 1: the layer below says what may be left out; got {self.first}")
        self.check(self.last >= 0, f"last must not be negative; got {self.last}")
        self.check(self.spare >= 0, f"spare must not be negative; got {self.spare}")
        self.check(self.span is None or 0 < self.span < ALL, f"span is positive, or None; got {self.span}")

    @property
    def starts_from_text(self) -> bool:
        """Always: text says where an FFN may be left out."""
        return True

    def adapters(self, anatomy: Anatomy) -> Mapping[str, SkippingFFN]:
        """One around each FFN of the middle layers, and one that measures around the FFN below them."""
        top = anatomy.layers - self.last
        sites = [site for site in anatomy.at(Seam.FFN) if self.first - 1 <= site.layer < top]
        self.check(
            len(sites) > 1,
            f"no FFN is left that may be left out, with first={self.first} and last={self.last} of {anatomy.layers} layers"
            " (behind a gate, those above the layer where it reads)",
        )
        span = ALL if self.span is None else self.span
        return {
            site.key: SkippingFFN(anatomy.width, measures=site is sites[0], span=span, spare=self.spare)
            for site in sites
        }

    def start(self, adapters: Mapping[str, Any], ids: Tensor, reader: Reader) -> None:
        """Find the least cosine at which at most `skip` of the FFNs are left out on `ids` [T]."""
        residuals = reader.residuals(list(adapters), ids[: 1 << 14])
        similarities = torch.stack([_similarity(*residuals[key]).cpu() for key in adapters])[:, self.spare :]
        if similarities.shape[1] < 2:
            raise AddendaError(f"FFNSkip needs at least {self.spare + 2} tokens of text; got {len(ids)}")
        found = similarities[:-1].flatten().sort().values
        span = next(iter(adapters.values())).span
        low, high = 0, len(found)  # the first that leaves out few enough: more are left out the lower it is
        while low < high:
            middle = (low + high) // 2
            if float(skipped(similarities, found[middle], span)[1:].float().mean()) <= self.skip:
                high = middle
            else:
                low = middle + 1
        with torch.no_grad():
            for adapter in adapters.values():
                adapter.least.fill_(float(found[low]) if low < len(found) else NEVER)
