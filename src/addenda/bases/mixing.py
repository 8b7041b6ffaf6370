"""Modules that have a say at the head: what they tell rides on the last states, and the head mixes the distributions.

So it passes through whatever the model, or a loss in chunks, does to its states before the head: tokens left out, rows
gathered, the outer forward's own loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.bases.hooks import Forward, Replaced, first_of, follow
from addenda.core.call import RUNTIME, Call
from addenda.core.contracts import HeadAdapter
from addenda.core.contribution import Contribution
from addenda.core.logits import Finish
from addenda.core.modes import compiling
from addenda.core.site import Site

#: the least share that a logarithm is taken of
LEAST = 1e-30


def hook_notes(module: nn.Module, reads: Site, head: Site) -> Replaced:
    """Let head adapters that read what enters `module` note what they have to say."""

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)  # first: a gate may be read at this very place
            if RUNTIME.call is not None and me.live:
                _note(RUNTIME.call, first_of(args, kwargs), reads, head)
            return out

        return forward

    return Replaced(module, make)


def _note(call: Call, x: Tensor, reads: Site, head: Site) -> None:
    for share in call.shares:
        adapter = share.module.adapters._modules.get(head.key)
        if not isinstance(adapter, HeadAdapter) or adapter.reads != reads.key:
            continue
        x = x.view(call.batch, call.length, -1)  # OPT hands its FFN flattened rows
        if not compiling():
            call.go_to(x.device)
            follow(adapter, x.device)
        part = call.rows_of(x, share)
        told = adapter.told(part)
        weight = (adapter.share * call.weight_of(share)).clamp(0.0, 1.0).to(told.dtype)
        weight = weight.expand(*told.shape[:-1], 1)
        if not (torch.is_grad_enabled() and told.requires_grad):  # else a fresh one would never begin to learn
            weight = weight * (told != 0).any(-1, keepdim=True)
        call.collect_delta(share, told * weight)
        call.observe(share, head.key, contribution=Contribution(told * weight), shape=part.shape[:2], x=part)
        if share.rows is not None:
            told = told.new_zeros(call.batch, *told.shape[1:]).index_copy(0, share.rows, told)
            weight = weight.new_zeros(call.batch, *weight.shape[1:]).index_copy(0, share.rows, weight)
        if not call.recomputing:  # what the head was given is what the forward noted
            call.notes[share.name] = told, weight


def with_notes(call: Call, out: Any) -> Any:
    """A decoder's output whose last states [B, T, D] carry what modules noted, in name order: [B, T, D + n (D + 1)]."""
    if not call.notes:
        return out
    states = out[0]
    notes = [part.to(states) for name in sorted(call.notes) for part in call.notes[name]]
    whole = torch.cat([states, *notes], -1)
    if isinstance(out, tuple):
        return (whole, *out[1:])
    out.last_hidden_state = whole
    return out


def hook_head(module: nn.Module, width: int, finish: Finish) -> Replaced:
    """Let the output embedding mix the distributions that ride on its states."""

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(states: Tensor, *args: Any, **kwargs: Any) -> Any:
            if states.shape[-1] == width or not me.live:
                return original(states, *args, **kwargs)
            states, *notes = states.split([width, *[width, 1] * (states.shape[-1] // width - 1)], -1)
            states = states.contiguous()
            plain = original(states, *args, **kwargs)
            shares = torch.cat(notes[1::2], -1).float()
            shares = shares / shares.sum(-1, keepdim=True).clamp(min=1.0)
            rest = 1.0 - shares.sum(-1, keepdim=True)

            def log_p(logits: Tensor) -> Tensor:
                return F.log_softmax(finish(logits).float(), -1)

            mixed = rest.clamp(min=LEAST).log() + log_p(plain)
            for number, told in enumerate(
                notes[::2]
            ):  # one after another: a vocabulary's worth for each token is large
                share = shares[..., number : number + 1]
                part = share.clamp(min=LEAST).log() + log_p(original(states + told, *args, **kwargs))
                mixed = torch.logaddexp(mixed, part)
            mixed = finish.back(mixed).to(plain.dtype)
            return torch.where(shares.sum(-1, keepdim=True) > 0, mixed, plain)

        return forward

    return Replaced(module, make)
