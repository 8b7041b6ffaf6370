"""Isolation: stopping attention across the documents of a packed row, in the way that the base's architecture obeys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from addenda.core.errors import UnsupportedError

if TYPE_CHECKING:
    from addenda.plug.base import Base

Way = Literal["positions", "mask"]


def way_of(base: Base) -> Way:
    """How this base takes packed documents: found by trying, on two documents of a few tokens.

    Most architectures of transformers read restarting positions as packed documents, and mask them apart in every kind
    of layer, sliding windows included. The others take a mask [B, 1, T, T].

    Raises:
        UnsupportedError: neither keeps the documents apart.
    """
    pad = base.model.config.pad_token_id
    ids = torch.tensor([[token for token in range(13) if token != pad][:12]], device=base.device)
    documents = torch.tensor([[0] * 5 + [1] * 7], device=base.device)
    ways: tuple[Way, ...] = ("positions", "mask")
    with torch.no_grad(), base.off():
        inner = base.model.base_model
        alone = inner(input_ids=ids[:, 5:], use_cache=False).last_hidden_state
        for way in ways:
            extra = inputs(way, documents, base.host.dtype())
            packed = inner(input_ids=ids, use_cache=False, **extra).last_hidden_state[:, 5:]
            rough = 1e-4 if base.host.dtype() == torch.float32 else 5e-2
            if float((packed - alone).abs().max()) <= rough * float(alone.abs().max()):
                return way
    raise UnsupportedError(f"isolate=True: {base.name} does not keep packed documents apart")


def inputs(way: Way, documents: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the model is given beside its ids, for document numbers [B, T]."""
    arguments = {"position_ids": restarting(documents)}
    if way == "mask":
        causal = torch.ones(documents.shape[1:] * 2, dtype=torch.bool, device=documents.device).tril()
        seen = (documents[:, :, None] == documents[:, None, :]) & causal
        shut = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        arguments["attention_mask"] = shut[:, None]
    return arguments


def restarting(documents: Tensor) -> Tensor:
    """Positions [B, T] that start at zero with each document of `documents` [B, T]."""
    at = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    new = torch.ones_like(documents, dtype=torch.bool)
    new[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return at - torch.where(new, at, 0).cummax(1).values
