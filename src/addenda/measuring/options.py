"""Options: how likely a base, as selected, finds each answer to a question; and the overlap of a written answer."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from addenda.core.errors import AddendaError, DataError
from addenda.core.state import evaluating

if TYPE_CHECKING:
    from addenda.plugging import Base


@dataclass(frozen=True)
class Option:
    """Log-likelihood [nats] of an answer's tokens after its prompt, and how many these are."""

    text: str
    nats: float
    tokens: int

    @property
    def mean(self) -> float:
        """Nats per token: long answers are not unlikely for being long."""
        return self.nats / self.tokens


@torch.no_grad()
def likelihoods(base: Base, prompt: str, answers: Sequence[str]) -> list[Option]:
    """The log-likelihood of each answer after a prompt, in one batch.

    Prompt and answer are tokenized together, a space between them, as lm-evaluation-harness does. A prompt that is too long
    for the base's context loses its beginning.

    Raises:
        AddendaError: the base has no tokenizer, or its logits are not finite.
        DataError: there is no answer, or one has no token, or alone fills the base's context.
    """
    if not answers:
        raise DataError("there is no answer to choose")
    rows, counts = [], []
    head = len(base.tokenize(prompt.rstrip())) if prompt.strip() else 0
    context = base.context
    for answer in answers:
        row = base.tokenize(f"{prompt.rstrip()} {answer.strip()}")
        count = len(row) - max(head, 1)  # the first token of all has nothing before it
        if count < 1 or not answer.strip():
            raise DataError(f"the answer {answer!r} has no token of its own after the prompt")
        row = row if context is None else row[-context:]
        if count >= len(row):
            raise DataError(f"the answer {answer[:40]!r} has {count} tokens, as many as the base's context or more")
        rows.append(row)
        counts.append(count)
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # padded on the right: nothing that counts comes after
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    device = base.device
    with evaluating(base.model):
        logits = base.model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    found = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None].to(device)).squeeze(-1).cpu()
    if not bool(found[mask[:, 1:].bool()].isfinite().all()):
        raise AddendaError("the logits are not finite: what is plugged computes no numbers")
    return [
        Option(answer, float(found[n, len(row) - 1 - count : len(row) - 1].sum()), count)
        for n, (answer, row, count) in enumerate(zip(answers, rows, counts, strict=True))
    ]


def first_wins(values: Sequence[float]) -> float:
    """1 if the first value is the largest, 0 if another is, its share of the draw where several are."""
    best = max(values)
    return (values[0] == best) / sum(value == best for value in values)


_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(answer: str) -> list[str]:
    """The words of an answer in lower case, without articles and punctuation (Rajpurkar et al. 2016, SQuAD)."""
    kept = "".join(character for character in answer.lower() if character not in string.punctuation)
    return _ARTICLES.sub(" ", kept).split()


def f1(answer: str, wanted: str) -> float:
    """The F1 of the words of two answers, 0 to 1 (SQuAD's)."""
    mine, theirs = normalised(answer), normalised(wanted)
    if not mine or not theirs:
        return float(mine == theirs)
    shared = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * shared / (len(mine) + len(theirs))
