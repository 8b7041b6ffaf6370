"""Parts of one softmax read apart and joined by their log-sum-exp: no key is copied, no mask widened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.modes import compiling

#: what may reach an attention function and change its scores in a way that is not known here
_UNKNOWN = ("position_bias", "s_aux", "cache")
#: elements to which CUDA's kernels want the rows of a mask aligned, and a head's width
_MASK_ALIGNED, _HEAD_ALIGNED = 16, 8


class Read(NamedTuple):
    """What queries read of some keys: `out` [B, H, T, K], the logarithm of the softmax's sum `lse` [B, H, T].

    `weights` [B, H, T, Tk], where they were computed.
    """

    out: Tensor
    lse: Tensor
    weights: Tensor | None = None


#: how many slots, and what is added to their scores [1 or R, 1, 1 or T, 1 or S]
Slots = tuple[int, Tensor | None]
#: (query [B, H, T, K], key and value [B, G, Tk, K], an additive mask that broadcasts to [B, H, T, Tk], causal, scale)
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool, float], Read]


def kernel_for(
    module: nn.Module, implementation: str, tensors: tuple[Tensor, ...], options: dict[str, Any]
) -> Kernel | None:
    """The base's kernel in a form that gives its log-sum-exp; None where there is none, or a gradient is wanted.

    Args:
        module: the attention module. In training all is concatenated: a layer that is computed again must compute the same.
        implementation: transformers' name of the base's attention.
        tensors: query, key, value, and then the slots that are to be read.
        options: what else the attention function was called with.
    """
    query, key, value = tensors[:3]
    unknown = any(options.get(name) is not None for name in _UNKNOWN) or bool(options.get("dropout"))
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    device = query.device.type
    mixed = not query.dtype == key.dtype == value.dtype or (device != "meta" and torch.is_autocast_enabled(device))
    if module.training or unknown or wanted or mixed:
        return None
    if implementation == "eager":
        return partial(computed, cap=options.get("softcap"))
    plain = options.get("softcap") is None and query.shape[-1] == key.shape[-1] == value.shape[-1]
    told = options.get("output_attentions")  # that it gives none, the base's own function tells
    if implementation != "sdpa" or told or not plain or any(tensor.stride(-1) != 1 for tensor in (query, key, value)):
        return None
    if device == "cpu":
        return flash_on_cpu
    # compiled code cannot ask which kernels a GPU has
    return on_cuda if device == "cuda" and not compiling() and on_cuda_there(query) else None


def read_tokens(
    kernel: Kernel, module: nn.Module, tensors: Iterable[Tensor], mask: Tensor | None, options: dict[str, Any]
) -> Read:
    """Attention of queries [B, H, T, K] to keys and values [B, G, Tk, K] under the base's own mask, as sdpa reads it.

    Without a mask one query sees every key, and several are causal and aligned to the first key: those that a static cache
    has no tokens for yet stand behind.
    """
    query, key, value = tensors
    steps, chosen = query.shape[2], options.get("is_causal")
    causal = steps > 1 and mask is None and bool(getattr(module, "is_causal", True) if chosen is None else chosen)
    if causal:
        key, value = key[:, :, :steps], value[:, :, :steps]
    return kernel(query, key, value, _additive(mask, query, key.shape[2]), causal, _scale(query, options))


def read_slots(
    kernel: Kernel, query: Tensor, keys: Tensor, values: Tensor, slots: Sequence[Slots], options: dict[str, Any]
) -> Read:
    """Attention of queries [R, H, T, K] to the same slots [G, S, K] for every row, visible to every query.

    They are read once for the whole batch, as if its rows were one text. What is added to the scores of all of a part moves its
    log-sum-exp by as much, so parts that differ in it are read apart; what differs from slot to slot is a mask.
    """
    rows, heads, steps, width = query.shape
    groups = len(keys)
    asked = query.reshape(rows, groups, -1, steps, width).transpose(0, 1).reshape(1, groups, -1, width)
    reads: list[Read] = []  # compiled code cannot call a `list[Read]`
    scale, at = _scale(query, options), 0
    for count, bias in _merged(slots):
        mine = [tensor[None, :, at : at + count].to(query.dtype) for tensor in (keys, values)]
        mask = None
        if bias is not None and bias.shape[-1] != 1:
            each = bias.expand(rows, heads // groups, steps, count).reshape(1, 1, -1, count)
            mask, bias = each.to(query.dtype), None
        found, at = kernel(asked, *mine, mask, False, scale), at + count
        out = found.out.reshape(groups, rows, -1, steps, width).transpose(0, 1).reshape(query.shape)
        lse = found.lse.reshape(groups, rows, -1, steps).transpose(0, 1).reshape(rows, heads, steps)
        reads.append(Read(out, lse if bias is None else lse + bias.squeeze(-1)))
    if len(reads) == 1:
        return reads[0]
    whole = torch.stack([read.lse for read in reads]).logsumexp(0)
    parts = [read.out * (read.lse - whole).exp().unsqueeze(-1) for read in reads]
    return Read(torch.stack(parts).sum(0).to(query.dtype), whole)


def _merged(slots: Sequence[Slots]) -> Iterator[Slots]:
    """Neighbours to whose scores nothing is added, as one."""
    for plain, run in groupby(slots, key=lambda part: part[1] is None):
        together = list(run)
        yield from [(sum(count for count, _ in together), None)] if plain else together


def stacked(parts: list[Read]) -> Read:
    """What rows read, from parts of them in order."""
    weights = [part.weights for part in parts if part.weights is not None]
    out, lse = torch.cat([part.out for part in parts]), torch.cat([part.lse for part in parts])
    return Read(out, lse, torch.cat(weights) if weights else None)


def join(tokens: Read, slots: Read) -> tuple[Tensor, Tensor | None]:
    """What one softmax over both reads [B, H, T, K], and the tokens' weights in it, where there are any."""
    share = torch.sigmoid(slots.lse - tokens.lse).unsqueeze(-1)  # of the slots
    out = torch.lerp(tokens.out.to(share.dtype), slots.out.to(share.dtype), share).to(tokens.out.dtype)
    weights = None if tokens.weights is None else (tokens.weights * (1 - share)).to(tokens.weights.dtype)
    return out, weights


def flash_on_cpu(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Read:
    """The kernel behind `scaled_dot_product_attention` on a CPU."""
    folded = _folded(query, key, mask, causal)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        folded, key, value, 0.0, causal, attn_mask=mask, scale=scale
    )
    return Read(out.reshape(query.shape), lse.reshape(query.shape[:3]))


def on_cuda_there(query: Tensor) -> bool:
    """Whether a GPU's kernels take queries of this width and dtype."""
    return query.shape[-1] % _HEAD_ALIGNED == 0 and query.dtype in (torch.float16, torch.bfloat16, torch.float32)


def on_cuda(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Read:
    """The kernels behind `scaled_dot_product_attention` on a GPU: flash where it can, else the memory-efficient one."""
    folded, aten = _folded(query, key, mask, causal), torch.ops.aten
    if mask is None and flash_can(folded, key, value, causal):
        out, lse = aten._scaled_dot_product_flash_attention(folded, key, value, 0.0, causal, False, scale=scale)[:2]
        return Read(out.reshape(query.shape), lse.reshape(query.shape[:3]))
    heads, steps, length = *folded.shape[1:3], key.shape[2]
    if heads != key.shape[1]:
        key, value = (part.repeat_interleave(heads // part.shape[1], 1) for part in (key, value))
    if mask is not None:
        mask = F.pad(mask, (0, -length % _MASK_ALIGNED))[..., :length].expand(len(query), heads, steps, length)
    out, lse = aten._scaled_dot_product_efficient_attention(folded, key, value, mask, True, 0.0, causal, scale=scale)[
        :2
    ]
    return Read(out.reshape(query.shape), lse[..., :steps].reshape(query.shape[:3]))  # its rows are padded


def flash_can(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> bool:
    """Whether flash attention is there for this GPU and these tensors, and nobody turned it off."""
    cuda = torch.backends.cuda
    return cuda.can_use_flash_attention(
        cuda.SDPAParams(query, key, value, None, 0.0, causal, query.shape[1] != key.shape[1])
    )


def computed(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float, cap: float | None = None
) -> Read:
    """Scores written out, as eager attention does; `cap` is their soft cap."""
    batch, heads, steps, width = query.shape
    kv_heads, length = key.shape[1:3]
    scores = query.reshape(batch, kv_heads, -1, width) @ key.transpose(2, 3) * scale
    scores = scores if cap is None else torch.tanh(scores / cap) * cap
    scores = scores.view(batch, heads, steps, length)
    if causal:
        scores = scores.masked_fill(scores.new_ones(steps, length, dtype=torch.bool).triu(1), -torch.inf)
    scores = (scores if mask is None else scores + mask).float()
    weights = scores.softmax(-1).to(query.dtype)
    out = (weights.view(batch, kv_heads, -1, length) @ value).view(query.shape)
    return Read(out, scores.logsumexp(-1), weights)


def _folded(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Queries [B, G, H / G * T, K]: heads that read the same keys as if they were tokens, where the mask is one for all."""
    alike = not causal and (mask is None or mask.shape[1] == mask.shape[2] == 1)
    if not alike or query.shape[1] == key.shape[1]:
        return query
    return query.reshape(len(query), key.shape[1], -1, query.shape[-1])


def _scale(query: Tensor, options: dict[str, Any]) -> float:
    scale = options.get("scaling")
    return query.shape[-1] ** -0.5 if scale is None else scale


def _additive(mask: Tensor | None, query: Tensor, length: int) -> Tensor | None:
    """A mask to be added to scores; a query that sees nothing has the least there is in every column, never -inf.

    Else kernels give it a log-sum-exp of zero, as if it had read something.
    """
    if mask is None:
        return None
    mask, least = mask[..., :length], torch.finfo(query.dtype).min
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, least)
    return mask.to(query.dtype).clamp(min=least)
