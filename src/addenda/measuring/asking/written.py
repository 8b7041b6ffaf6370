"""Written answers: many prompts continued greedily at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addenda.core.modes import evaluating
from addenda.measuring.asking.options import batches
from addenda.plug import decoding
from addenda.telling.progress import tick

if TYPE_CHECKING:
    from addenda.plug.base import Base


def written(base: Base, prompts: Sequence[str], *, tokens: int = 16, batch_tokens: int = 4096) -> list[str]:
    """What the base, as selected, writes after each prompt: the first line, of at most so many tokens.

    Prompts of one length ride together, so none is padded, and each is continued as if it were alone. One that is too long for
    the base's context loses its beginning.

    Raises:
        AddendaError: the base has no tokenizer.
    """
    ids = [base.tokenize(prompt.rstrip()) for prompt in prompts]
    answers = continued(base, ids, tokens=tokens, batch_tokens=batch_tokens)
    return [base.tokenizer.decode(answer, skip_special_tokens=True).strip().split("\n")[0] for answer in answers]


@torch.no_grad()
def continued(
    base: Base, prompts: Sequence[Tensor], *, tokens: int, batch_tokens: int = 4096, padded: bool = False
) -> list[list[int]]:
    """The token ids that the base, as selected, writes after each prompt [T], greedily: at most so many, without what ends them.

    Prompts of one length ride together; with `padded` those of like length do, padded on the left, which is faster where
    lengths differ. One that is too long for the base's context loses its beginning.
    """
    room = None if base.context is None else max(1, base.context - tokens)
    given = [ids if room is None else ids[-room:] for ids in prompts]
    order = sorted(range(len(given)), key=lambda at: len(given[at]))
    stops = decoding.end_ids(base.model, base.tokenizer)
    tokenizer = base.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    answers: dict[int, list[int]] = {}
    alike = [list(group) for _, group in groupby(order, key=lambda at: None if padded else len(given[at]))]
    lengths = [len(ids) + tokens for ids in given]
    for part in (part for group in alike for part in batches(group, lengths, batch_tokens)):
        longest = len(given[part[-1]])
        ids = torch.full((len(part), longest), pad or 0, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, at in enumerate(part):
            ids[row, longest - len(given[at]) :], mask[row, longest - len(given[at]) :] = given[at], 1
        tick(ids.numel())
        with evaluating(base.model):
            out = base.model.generate(
                input_ids=ids.to(base.device),
                attention_mask=mask.to(base.device),
                **decoding.settings(base.model, tokenizer, max_new_tokens=tokens),
            )
        tick(len(part) * (out.shape[1] - longest))
        for at, row in zip(part, out[:, longest:].tolist(), strict=True):
            answers[at] = row[: next((place for place, token in enumerate(row) if token in stops), len(row))]
    return [answers[at] for at in range(len(given))]
