"""Continuing: many prompts at a time, of like length together, by the base as selected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.modes import evaluating
from addenda.plug import decoding
from addenda.telling.progress import tick

if TYPE_CHECKING:
    from addenda.plug.base import Base


@torch.no_grad()
def continued(
    base: Base,
    prompts: Sequence[Tensor],
    *,
    tokens: int,
    batch_tokens: int = 4096,
    padded: bool = False,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """The token ids that the base, as selected, writes after each prompt [T]: at most so many, without what ends them.

    Prompts of one length ride together; with `padded` those of like length do, padded on the left, which is faster where
    lengths differ. One that is too long for the base's context loses its beginning. At temperature 0 it writes greedily; else
    it draws, the same each time for one seed and the same prompts, and leaves the caller's random state as it was.
    """
    room = None if base.context is None else max(1, base.context - tokens)
    given = [ids if room is None else ids[-room:] for ids in prompts]
    order = sorted(range(len(given)), key=lambda at: len(given[at]))
    tokenizer, stops = base.tokenizer, decoding.end_ids(base.model, base.tokenizer)
    drawn: dict[str, Any] = {}
    if temperature > 0:
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    options = decoding.settings(base.model, tokenizer, max_new_tokens=tokens, **drawn)
    answers: dict[int, list[int]] = {}
    alike = [list(group) for _, group in groupby(order, key=lambda at: None if padded else len(given[at]))]
    lengths = [len(ids) + tokens for ids in given]
    with torch.random.fork_rng([base.device] if base.device.type == "cuda" else [], enabled=temperature > 0):
        if temperature > 0:
            torch.manual_seed(seed)
        for part in (part for group in alike for part in batches(group, lengths, batch_tokens)):
            for at, row in zip(part, _written(base, [given[at] for at in part], options), strict=True):
                answers[at] = row[: next((place for place, token in enumerate(row) if token in stops), len(row))]
    return [answers[at] for at in range(len(given))]


def _written(base: Base, rows: Sequence[Tensor], options: dict[str, Any]) -> list[list[int]]:
    """What is written after the rows of one batch, padded on the left."""
    longest, tokenizer = max(map(len, rows)), base.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = torch.full((len(rows), longest), pad or 0, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :], mask[number, longest - len(row) :] = row, 1
    tick(ids.numel())
    with evaluating(base.model):
        out = base.model.generate(input_ids=ids.to(base.device), attention_mask=mask.to(base.device), **options)
    tick(len(rows) * (out.shape[1] - longest))
    return out[:, longest:].tolist()


def batches(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Places in rising order of length, so many that the padded batch holds at most `batch_tokens`, or one alone."""
    batch: list[int] = []
    for at in order:
        if batch and (len(batch) + 1) * lengths[at] > batch_tokens:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch
