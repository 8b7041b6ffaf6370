"""Options: how likely a base, as selected, finds each answer to a question; and the overlap of a written answer."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addenda.core.errors import AddendaError, DataError
from addenda.core.modes import evaluating
from addenda.objectives.head import Head
from addenda.objectives.objective import likelihood
from addenda.plug.continuing import batches
from addenda.telling.progress import tick

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of one forward pass
BATCH_TOKENS = 4096


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


def likelihoods(base: Base, prompt: str, answers: Sequence[str]) -> list[Option]:
    """The log-likelihood of each answer after a prompt, in one batch; see `all_likelihoods`."""
    return all_likelihoods(base, [(prompt, answers)])[0]


@torch.no_grad()
def all_likelihoods(
    base: Base, questions: Sequence[tuple[str | Tensor, Sequence[str]]], *, batch_tokens: int = BATCH_TOKENS
) -> list[list[Option]]:
    """For each question, a prompt with its answers, the log-likelihood of each answer after the prompt.

    Prompt and answer are tokenized together, a space between them, as lm-evaluation-harness does. A prompt may be token ids [T]
    of a chat; the answer's own tokens follow it. A prompt that is too long for the base's context loses its beginning. Rows
    of like length ride together, `batch_tokens` at a time; answers of one token to one prompt (yes or no) are read off one row.

    Raises:
        AddendaError: the base has no tokenizer, or its logits are not finite.
        DataError: a question has no answer, or an answer has no token, or alone fills the base's context.
    """
    rows = [row for number, question in enumerate(questions) for row in _rows(base, number, *question)]
    with base.off():
        head = Head(base.model)
    together: dict[object, list[int]] = {}
    for at, row in enumerate(rows):  # rows that read the same tokens
        key = (row.question, row.ids[:-1].numpy().tobytes()) if row.count == 1 else at
        together.setdefault(key, []).append(at)
    read = sorted(together.values(), key=lambda group: len(rows[group[0]].ids))
    nats: dict[int, float] = {}
    with evaluating(base.model):
        for batch in batches(range(len(read)), [len(rows[group[0]].ids) - 1 for group in read], batch_tokens):
            groups = [[rows[at] for at in read[number]] for number in batch]
            places = [at for number in batch for at in read[number]]
            tick(sum(len(rows[read[number][0]].ids) for number in batch))
            nats |= zip(places, _score(base, head, groups), strict=True)
    options: dict[int, list[Option]] = {number: [] for number in range(len(questions))}
    for at, row in enumerate(rows):
        options[row.question].append(Option(row.answer, nats[at], row.count))
    return list(options.values())


@dataclass(frozen=True)
class _Row:
    """An answer after its prompt: token ids [T], of which the last `count` are the answer's."""

    question: int
    answer: str
    ids: Tensor
    count: int


def _rows(base: Base, number: int, prompt: str | Tensor, answers: Sequence[str]) -> list[_Row]:
    if not answers:
        raise DataError("there is no answer to choose")
    if isinstance(prompt, Tensor):
        head = len(prompt)
    else:
        head = len(base.tokenize(prompt.rstrip())) if prompt.strip() else 0
    context, rows = base.context, list[_Row]()
    for answer in answers:
        if isinstance(prompt, Tensor):
            row = torch.cat([prompt, base.after(answer.strip())])
        else:
            row = base.tokenize(f"{prompt.rstrip()} {answer.strip()}")
        count = len(row) - max(head, 1)  # the first token of all has nothing before it
        if count < 1 or not answer.strip():
            raise DataError(f"the answer {answer!r} has no token of its own after the prompt")
        row = row if context is None else row[-context:]
        if count >= len(row):
            raise DataError(f"the answer {answer[:40]!r} has {count} tokens, as many as the base's context or more")
        rows.append(_Row(number, answer, row, count))
    return rows


def _score(base: Base, head: Head, groups: Sequence[Sequence[_Row]]) -> list[float]:
    """The nats of each row's answer; rows of one group differ in their last token alone, and are read once."""
    longest = max(len(group[0].ids) for group in groups) - 1
    ids = torch.zeros(len(groups), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    places: list[Tensor] = []
    for number, group in enumerate(groups):  # padded on the right: nothing that counts comes after
        end = len(group[0].ids) - 1
        ids[number, :end], mask[number, :end] = group[0].ids[:-1], 1
        places += [number * longest + torch.arange(end - row.count, end) for row in group]
    rows = [row for group in groups for row in group]
    hidden = head.hidden(ids.to(base.device), attention_mask=mask.to(base.device)).flatten(0, 1)
    targets = torch.cat([row.ids[-row.count :] for row in rows]).to(base.device)
    weights = torch.ones(len(targets), device=base.device)
    _, costs = head.costs(likelihood(), hidden[torch.cat(places).to(base.device)], targets, weights)
    if not bool(costs.isfinite().all()):
        raise AddendaError("the logits are not finite: what is plugged computes no numbers")
    return [-float(part.sum()) for part in costs.double().split([row.count for row in rows])]


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
