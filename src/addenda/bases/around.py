"""Adapters around a base's own computation: it is run on the tokens that are asked for, where nobody needs the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from addenda.core.call import Call, Share
from addenda.core.contracts import AroundAdapter
from addenda.core.contribution import Contribution
from addenda.core.modes import readable
from addenda.core.site import Site
from addenda.core.state import select_rows, spread


def residual_of(site: str) -> str:
    """Under which key a call keeps the residual stream of a site."""
    return f"{site}.residual"


class BaseOutput:
    """What a submodule of the base computes from x [R, T, D_in]; implements `contracts.Own`.

    `y` is its output where that is known. It is asked for some tokens alone where `sparse` and values may be looked at.
    """

    def __init__(
        self, compute: Callable[[Tensor], Tensor], x: Tensor, y: Tensor | None, post: nn.Module | None
    ) -> None:
        self.compute, self.x, self.y, self.post = compute, x, y, post
        self.sparse = False

    def __call__(self, needed: Tensor | None = None) -> Tensor:
        """The output [R, T, D_out]; zero on tokens that were left out."""
        if self.y is None and needed is not None and self.sparse and readable(needed) and not bool(needed.all()):
            index = needed.flatten().nonzero().squeeze(-1)
            out = self.x.new_zeros(self.x[..., 0].numel(), self.x.shape[-1])
            if index.numel():
                part = self.compute(self.x.reshape(out.shape).index_select(0, index)[None])[0]
                out = out.to(part.dtype).index_copy(0, index, part)
            return out.view(self.x.shape)
        if self.y is None:
            self.y = self.compute(self.x)
        return self.y

    def added(self, y: Tensor) -> Tensor:
        """What the layer adds to the residual stream for that output."""
        return y if self.post is None else self.post(y)

    def of(self, call: Call, share: Share) -> BaseOutput:
        """The same for a share's rows; the base is run on all."""
        return self if share.rows is None else BaseOutput(self.compute, self.x, call.rows_of(self(), share), self.post)


def stand_around(call: Call, site: Site, shares: list[Share], own: BaseOutput) -> Tensor:
    """The output of a site [B, T, D] with modules around it, each on rows of its own."""
    residual = call.entry.pop(residual_of(site.key), own.x).view(own.x.shape)
    watched = call.collector is not None or call.observer is not None
    share, weight = shares[0], call.weight_of(shares[0])
    every = share.rows is None or list(share.by_row) == list(range(call.batch))
    own.sparse = len(call.shares) == 1 and every and not watched and _is_one(weight)
    y = None if own.sparse else own()
    for share in shares:
        part = own if y is None else own.of(call, share)
        new = _asked(call, share, site, call.rows_of(own.x, share), call.rows_of(residual, share), part)
        if y is None:
            return new
        before, weight = call.rows_of(y, share), call.weight_of(share)
        new = _blended(before, new.to(y.dtype), weight)
        if watched:
            call.collect_delta(share, new - before)
            changed = (new != before).any(-1, keepdim=True)
            contribution = Contribution(new - before, live=changed)
            call.observe(share, site.key, contribution=contribution, shape=new.shape[:2], x=call.rows_of(own.x, share))
        y = new if share.rows is None else y.index_copy(0, share.rows, new)
    assert y is not None
    return y


def _asked(call: Call, share: Share, site: Site, x: Tensor, residual: Tensor, own: BaseOutput) -> Tensor:
    """What the share's adapter gives for its rows; its note and its state are kept."""
    adapter, key = share.module.adapter(site.key), (share.name, site.key)
    assert isinstance(adapter, AroundAdapter)
    before: Tensor | None = call.states.get(key)
    state = before if before is None or share.rows is None else select_rows(before, share.rows)
    note = call.note_for(share, site.key)
    new, note, state = adapter.around(
        x, residual, own, note=None if note is None else note.to(x.device),
        state=None if state is None else state.to(x.device), mask=call.mask_of(share), starts=call.starts_of(share),
    )  # fmt: skip
    if call.recomputing:
        return new
    if note is not None:
        call.noted[share.name] = note
    if state is not None:
        state = state.detach()
        call.next_states[key] = state if share.rows is None else spread(state, share.rows, before, call.batch)
    return new


def _is_one(weight: float | Tensor) -> bool:
    if isinstance(weight, Tensor):
        return readable(weight) and bool((weight == 1.0).all())
    return weight == 1.0


def _blended(before: Tensor, new: Tensor, weight: float | Tensor) -> Tensor:
    """The base's output moved towards the new one; exactly the one at weight 0, the other at 1."""
    if not isinstance(weight, Tensor):
        return new if weight == 1.0 else before + (new - before) * weight
    moved = torch.where(weight == 1.0, new, (before + (new - before) * weight).to(new.dtype))
    return torch.where(weight == 0.0, before, moved)
