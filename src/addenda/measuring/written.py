"""Written answers: many prompts continued greedily at a time, each as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from addenda.core.state import evaluating
from addenda.progress import tick

if TYPE_CHECKING:
    from addenda.plugging import Base


@torch.no_grad()
def written(base: Base, prompts: Sequence[str], *, tokens: int = 16, batch_tokens: int = 4096) -> list[str]:
    """What the base, as selected, writes after each prompt: the first line, of at most so many tokens.

    Prompts of one length ride together, so none is padded. One that is too long for the base's context loses its beginning.

    Raises:
        AddendaError: the base has no tokenizer.
    """
    by_length: dict[int, list[tuple[int, torch.Tensor]]] = defaultdict(list)
    room = None if base.context is None else base.context - tokens
    for number, prompt in enumerate(prompts):
        ids = base.tokenize(prompt.rstrip())
        ids = ids if room is None else ids[-room:]
        by_length[len(ids)].append((number, ids))
    found: dict[int, str] = {}
    tokenizer = base.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    for length, rows in sorted(by_length.items()):
        most = max(1, batch_tokens // (length + tokens))
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            ids = torch.stack([one for _, one in part]).to(base.device)
            tick(ids.numel())
            with evaluating(base.model):
                out = base.model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, pad_token_id=pad,
                    do_sample=False, temperature=None, top_k=None, top_p=None, repetition_penalty=1.0, num_beams=1,
                )  # fmt: skip
            for (number, _), row in zip(part, out[:, length:], strict=True):
                found[number] = tokenizer.decode(row, skip_special_tokens=True).strip().split("\n")[0]
    return [found[number] for number in range(len(prompts))]
