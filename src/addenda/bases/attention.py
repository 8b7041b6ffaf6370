"""Extra keys and values inside the attention function, after rotary embedding; cache, positions and masks stay.

Rows that select no attention module keep the base's own attention call, mask and kernel on the whole batch, so that
they stay bit-equal, and so do tokens on which every gate is shut; the others are computed with their extra slots and
put in their places. Slots that share the tokens' softmax are read apart and joined by the log-sum-exp, so that their
cost does not grow with the context; where a gradient is wanted, or a kernel gives no log-sum-exp, they are
concatenated to the tokens' keys.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from addenda.bases.joining import Kernel, Read, Slots, join, kernel_for, read_slots, read_tokens, stacked
from addenda.core.call import RUNTIME, Call, Choice, Share
from addenda.core.contracts import AttentionAdapter
from addenda.core.contribution import SPARSE_BELOW
from addenda.core.modes import readable
from addenda.core.site import Site
from addenda.core.state import KeyValues

# Neutral on purpose: names that contain "sdpa" or "flash" trigger checks meant for those backends.
NAME = "addenda_slots"

#: what is added to the scores of slots that a token is not to see: e to it is nothing beside one
UNSEEN = -20.0

#: rows of a batch by number
Rows = tuple[int, ...]


class AttentionSwitch:
    """Gives one attention module a copy of the config that names our attention function; `undo` puts the config back.

    The model's own config, and so its masks and what it saves, is not touched.
    """

    def __init__(self, module: nn.Module, site: Site) -> None:
        self.module = module
        self.before: Any = module.config
        own = copy.copy(self.before)
        own._attn_implementation_internal = NAME
        own.addenda_site = site
        own.addenda_host_config = self.before
        module.config = own

    def undo(self) -> None:
        """Put the module's own config back."""
        self.module.config = self.before


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The attention function of switched modules: query [B, H, T, K], key and value [B, G, Tk, K] -> [B, T, H, K]."""
    config: Any = module.config
    site: Site = config.addenda_site
    base = _base_function(module, config.addenda_host_config)
    if RUNTIME.capture is not None:
        RUNTIME.capture.append((key[0], value[0]))
    call = RUNTIME.call
    shares = [] if call is None else [share for share in call.shares if site.key in share.key_values]
    if call is None or not shares:
        return base(module, query, key, value, attention_mask, **kwargs)
    joint = [share for share in shares if _adapter(share, site).joint]
    apart = [share for share in shares if not _adapter(share, site).joint]
    mixed = _Mixed(module, site, call, base, (query, key, value, attention_mask), kwargs)
    out, weights = mixed.joint(joint) if joint else mixed.bare()
    for share in apart:
        out = mixed.apart(share, out)
    call.entry.pop(site.key, None)
    return call.given_on(out), weights


AttentionInterface.register(NAME, attend)


def _base_function(module: nn.Module, config: Any) -> Any:
    eager = sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[attr-defined]
    return ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager)


def _adapter(share: Share, site: Site) -> AttentionAdapter:
    return share.module.adapters[site.key.replace(".", "/")]  # type: ignore[return-value]


class _Mixed:
    """One attention call in which some rows read extra slots."""

    def __init__(self, module: nn.Module, site: Site, call: Call, base: Any, tensors: Any, kwargs: Any) -> None:
        self.module, self.site, self.call, self.base, self.kwargs = module, site, call, base, kwargs
        self.query, self.key, self.value, self.mask = tensors
        config: Any = module.config
        self.implementation: str = config.addenda_host_config._attn_implementation
        self.kernel: Kernel | None = None

    def bare(self) -> tuple[Tensor, Tensor | None]:
        """The base's own call on the whole batch."""
        return self.base(self.module, self.query, self.key, self.value, self.mask, **self.kwargs)

    def joint(self, shares: list[Share]) -> tuple[Tensor, Tensor | None]:
        """Attention in which each row's slots share the softmax with its tokens: [B, T, H, K].

        Weights [B, H, T, Tk], where the base's implementation gives any, are those of the tokens; the slots have the rest.
        """
        slots = [tensor for share in shares for tensor in share.key_values[self.site.key]]
        self.kernel = kernel_for(
            self.module, self.implementation, (self.query, self.key, self.value, *slots), self.kwargs
        )
        groups = [(rows, members, _open(members)) for rows, members in _groups(shares, self.call)]
        whole = len(groups) == 1 and groups[0][0] is None
        covered = whole or sum(len(rows) for rows, _, _ in groups if rows is not None) == self.call.batch
        observed = self.call.collector is not None
        shut = any(opened is not None for _, _, opened in groups)
        bare, of_bare = self.bare() if shut or observed or not covered else (None, None)
        out, weights = bare, of_bare
        for rows, members, opened in groups:
            if opened is False:
                continue
            new, of_rows = self._with_slots(rows, members)
            if isinstance(opened, Tensor):  # what no module acts on keeps the base's
                assert bare is not None
                new = torch.where(opened.unsqueeze(-1), new, bare if rows is None else self._at(rows, bare))
                if of_rows is not None and of_bare is not None:
                    kept = of_bare if rows is None else self._at(rows, of_bare)
                    of_rows = torch.where(opened.unsqueeze(1), of_rows, kept)
            out, weights = self._put(rows, new, out), self._put(rows, of_rows, weights)
        assert out is not None
        if observed:
            assert bare is not None
            for share in shares:  # joint slots cannot be told apart: each is charged with the whole difference
                self.call.collect_delta(share, self.call.rows_of(out - bare, share).flatten(2))
        for share in shares:
            self.call.observe(share, self.site.key, slots=share.key_values[self.site.key][0].shape[1])
        return out, weights

    def _put(self, rows: Rows | None, part: Tensor | None, whole: Tensor | None) -> Tensor | None:
        """The whole batch with some rows of it anew."""
        if rows is None or part is None:
            return part
        whole = part.new_empty(self.call.batch, *part.shape[1:]) if whole is None else whole
        return whole.index_copy(0, self.call.index_of(rows, part.device), part)

    def _with_slots(
        self, rows: Rows | None, members: list[tuple[Share, float | Tensor]]
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of some rows to their tokens and slots [R, T, H, K], and the tokens' weights where there are any."""
        query = self.query if rows is None else self._at(rows, self.query)
        keys, values, slots = self._slots(rows, members, query)
        if self.kernel is None:
            return self._concatenated(rows, query, keys, values, slots)
        parts = [self._tokens(part) for part in ([slice(None)] if rows is None else _runs(rows))]
        tokens = parts[0] if len(parts) == 1 else stacked(parts)
        read = read_slots(self.kernel, query, keys, values, slots, self.kwargs)
        out, weights = join(tokens, read)
        return out.transpose(1, 2), weights

    def _tokens(self, part: slice) -> Read:
        """What neighbouring rows read of their tokens: keys and values are looked at where they are."""
        assert self.kernel is not None
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[part]
        tensors = [tensor[part] for tensor in (self.query, self.key, self.value)]
        return read_tokens(self.kernel, self.module, tensors, mask, self.kwargs)

    def _concatenated(
        self, rows: Rows | None, query: Tensor, keys: Tensor, values: Tensor, slots: list[Slots]
    ) -> tuple[Tensor, Tensor | None]:
        """The base's own attention over slots and tokens in one row of keys, which is copied, under a wider mask."""
        key, value, mask = self.key, self.value, self.mask
        if rows is not None:
            key, value = self._at(rows, key), self._at(rows, value)
            mask = mask if mask is None or len(mask) == 1 else self._at(rows, mask)
        key = torch.cat([keys.to(key.dtype).expand(len(key), -1, -1, -1), key], 2)
        value = torch.cat([values.to(value.dtype).expand(len(value), -1, -1, -1), value], 2)
        mask = _widened(mask, slots, query, self.key.shape[2])
        out, weights = self.base(self.module, query, key, value, mask, **self.kwargs)
        return out, None if weights is None else weights[..., -self.key.shape[2] :]

    def _at(self, rows: Rows, tensor: Tensor) -> Tensor:
        return tensor.index_select(0, self.call.index_of(rows, tensor.device))

    def _slots(
        self, rows: Rows | None, members: list[tuple[Share, float | Tensor]], query: Tensor
    ) -> tuple[Tensor, Tensor, list[Slots]]:
        """Keys and values [G, S, K] of all modules of a group, and how many have which bias."""
        keys, values, slots = [], [], []
        sunk: bool | Tensor = False  # the tokens [R, 1 or T, 1] that have a sink already: one for all
        for share, weight in members:
            k, v = share.key_values[self.site.key]
            count, bias = _adapter(share, self.site).sinks, _log(weight, query)
            if count and isinstance(sunk, Tensor):  # by index: rows differ in their first module
                first = query.new_zeros(len(query), 1, 1, 1) if bias is None else bias
                slots.append((count, first.masked_fill(sunk.unsqueeze(1), _least(query))))
                keys.append(k[:, :count])
                values.append(v[:, :count])
            if count:
                skip, on = count if sunk is not False else 0, True if isinstance(weight, float) else weight != 0
                k, v = k[:, skip:], v[:, skip:]
                sunk = True if sunk is True or on is True else on if sunk is False else sunk | on
            seen, more = self._seen(rows, share)
            if seen is not None:
                k, v = k[:, seen], v[:, seen]
            keys.append(k)
            values.append(v)
            slots.append((k.shape[1], bias if more is None else more if bias is None else bias + more))
        return (keys[0], values[0], slots) if len(keys) == 1 else (torch.cat(keys, 1), torch.cat(values, 1), slots)

    def _seen(self, rows: Rows | None, share: Share) -> tuple[Tensor | None, Tensor | None]:
        """Which of a module's slots [n] some token sees, and what is added to their scores [R, 1, T, n]; None: all, nothing."""
        choice = self.call.choices.get(share.name)
        if choice is None or not _adapter(share, self.site).chosen:
            return None, None
        bias = choice.bias if rows is None else rows_within(choice.bias, share, rows, self.call)
        return choice.seen, bias.to(self.query.dtype).unsqueeze(1)

    def apart(self, share: Share, out: Tensor) -> Tensor:
        """`out` [B, T, H, K] plus gate * scale * attention over the share's slots alone, on its live tokens."""
        call, adapter = self.call, _adapter(share, self.site)
        rows = share.rows
        query, part = call.rows_of(self.query, share), call.rows_of(out, share)
        gate = adapter.mix(call.rows_of(call.entry[self.site.key], share)) * call.weight_of(share)  # [R, T, 1]
        heads, width = query.shape[1], query.shape[3]
        asked = query.transpose(1, 2).reshape(-1, heads, width)  # every token of every row reads the same slots
        flat_gate, index = gate.reshape(-1), None
        if readable(flat_gate):
            live = flat_gate != 0
            count = int(live.sum())
            if count == 0 and not torch.is_grad_enabled():
                call.observe(share, self.site.key, gate=gate)
                return out
            if count < SPARSE_BELOW * live.numel():
                index = live.nonzero().squeeze(-1)
                asked, flat_gate = asked[index], flat_gate[index]
        read = self._read(asked, share.key_values[self.site.key])  # [n, H, K]
        delta = (read * adapter.head_scale()[:, None] * flat_gate[:, None, None]).to(part.dtype)
        call.collect_delta(
            share, delta.flatten(1).view(*(part.shape[:2] if index is None else (-1,)), heads * width), index
        )
        call.observe(share, self.site.key, gate=gate)
        if index is None:
            new = torch.where((gate != 0).unsqueeze(-1), part + delta.view(part.shape), part)
        else:
            new = part.reshape(-1, heads, width).index_add(0, index, delta).view(part.shape)
        return new if rows is None else out.index_copy(0, rows, new)

    def _read(self, query: Tensor, slots: KeyValues) -> Tensor:
        """Softmax attention of n queries [n, H, K] over the slots alone: [n, H, K]."""
        keys, values = (t.to(query.dtype) for t in slots)
        groups = query.shape[1] // keys.shape[0]
        keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
        scale, cap = self.kwargs.get("scaling"), self.kwargs.get("softcap")
        query = query.transpose(0, 1)
        if cap is None:
            return F.scaled_dot_product_attention(query[None], keys[None], values[None], scale=scale)[0].transpose(0, 1)
        scores = query @ keys.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        scores = torch.tanh(scores / cap) * cap
        return (scores.float().softmax(-1).to(query.dtype) @ values).transpose(0, 1)


def _groups(shares: list[Share], call: Call) -> list[tuple[Rows | None, list[tuple[Share, float | Tensor]]]]:
    """Rows with the same set of joint modules and weights, computed together; gates are part of the weights."""
    if all(share.rows is None for share in shares):
        return [(None, [(share, call.weight_of(share)) for share in shares])]
    chosen: dict[tuple[tuple[int, float], ...], list[int]] = {}
    for row in range(call.batch):
        mine = tuple((n, share.by_row[row]) for n, share in enumerate(shares) if row in share.by_row)
        if mine:
            chosen.setdefault(mine, []).append(row)

    def weight_in(share: Share, rows: list[int], weight: float) -> float | Tensor:
        gate = call.gates.get(share.name)
        return weight if gate is None else rows_within(gate, share, rows, call) * weight

    return [
        (tuple(rows), [(shares[n], weight_in(shares[n], rows, weight)) for n, weight in mine])
        for mine, rows in chosen.items()
    ]


def choice_among(bias: Tensor) -> Choice:
    """The slots that some token sees, from what is added to the scores of all [R, T, S].

    Slots are looked at where that may be; in training, and compiled, all of them are read.
    """
    seen = None
    if readable(bias) and not torch.is_grad_enabled():
        shown = (bias > UNSEEN).flatten(0, -2).any(0)
        if not bool(shown.all()):
            seen = shown.nonzero().squeeze(-1) if bool(shown.any()) else bias.new_zeros(1, dtype=torch.long)
            bias = bias.index_select(-1, seen)
    return Choice(seen, bias.clamp(min=UNSEEN))


def rows_within(tensor: Tensor, share: Share, rows: Sequence[int], call: Call) -> Tensor:
    """Some rows of the batch, of a tensor that has the share's rows [R, ...]."""
    held = list(share.by_row)
    return tensor.index_select(0, call.index_of(tuple(held.index(row) for row in rows), tensor.device))


def _open(members: list[tuple[Share, float | Tensor]]) -> Tensor | bool | None:
    """Tokens [R, 1 or T, 1] on which some module of a group acts; None: all, False: none, where that may be looked at."""
    weights = [weight for _, weight in members if isinstance(weight, Tensor)]
    if len(weights) < len(members):
        return None
    opened = weights[0] != 0
    for weight in weights[1:]:
        opened = opened | (weight != 0)
    if not readable(opened) or torch.is_grad_enabled():
        return opened
    return None if bool(opened.all()) else opened if bool(opened.any()) else False


def _runs(rows: Rows) -> list[slice]:
    """Rows as runs of neighbours: a slice of a cache is no copy of it."""
    starts = [at for at in range(len(rows)) if at == 0 or rows[at] != rows[at - 1] + 1]
    return [slice(rows[a], rows[b - 1] + 1) for a, b in pairwise([*starts, len(rows)])]


def _log(weight: float | Tensor, like: Tensor) -> Tensor | None:
    """log w as [1 or R, 1, 1 or T, 1]; None for weight one."""
    if not isinstance(weight, Tensor):
        return (
            None if weight == 1.0 else torch.full((1, 1, 1, 1), math.log(weight), device=like.device, dtype=like.dtype)
        )
    # -inf in a whole row would give NaN where a kernel adds masks; such rows are replaced by the base's anyway
    on = weight > 0  # the gradient of a logarithm of zero is no number
    return torch.where(on, torch.where(on, weight, 1.0).to(like.dtype).log(), _least(like)).unsqueeze(1)


def _least(like: Tensor) -> float:
    return torch.finfo(like.dtype).min / 2


def _widened(mask: Tensor | None, slots: list[Slots], query: Tensor, length: int) -> Tensor | None:
    """The token columns' mask with slot columns before it: visible to every query, biased where weights are not one.

    Without a mask one query sees every token, and several are causal and aligned to the first key.
    """
    steps, plain = query.shape[2], all(bias is None for _, bias in slots)
    if mask is None:
        if steps == 1 and plain:
            return None
        at = torch.arange(length, device=query.device)
        mask = (at >= 0 if steps == 1 else at <= at[:steps, None]).view(1, 1, steps, length)
    extra = sum(count for count, _ in slots)
    if plain:
        opened = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros
        return torch.cat([opened(*mask.shape[:3], extra), mask], -1)
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    rows = query.shape[0]
    columns = [
        mask.new_zeros(rows, 1, steps, count) if bias is None else bias.to(mask.dtype).expand(rows, 1, steps, count)
        for count, bias in slots
    ]
    return torch.cat([*columns, mask.expand(rows, *mask.shape[1:])], -1)
