"""Scoring: the loss of a base, as selected, on the documents of a text, with what paired comparisons need."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from addenda.core.errors import AddendaError, DataError
from addenda.core.modes import evaluating, own_modes
from addenda.objectives.head import Head
from addenda.objectives.objective import likelihood
from addenda.telling.intervals import of_ratio
from addenda.telling.progress import tick
from addenda.text.encoding import Encoded, Encoder
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.frozen import Frozen

#: windows sorted by length at a time, so that few tokens are padding
WINDOWS = 512
#: where some tokens of a text are scored: windows of each document, most of which then have text before them; documents at least,
#: as long as each gives so many tokens; characters of a token at most
STRETCH, DOCUMENTS, TOKENS_OF_EACH, CHARACTERS = 4, 8, 128, 16


@dataclass(frozen=True)
class Difference:
    """One score minus another on the same documents: nats per token, with its 95% interval."""

    nats: float
    low: float
    high: float
    documents: int

    def __float__(self) -> float:
        return self.nats


@dataclass(frozen=True)
class Score:
    """Held-out loss in nats per token; `low` and `high` bound the 95% interval over documents (equal below two, never below 0).

    `sums`, `counts` and `sizes` [documents] are each document's nats, scored tokens and bytes, in the text's order.
    """

    nats: float
    low: float
    high: float
    tokens: int
    bytes: int
    documents: int
    on: str
    sums: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    sizes: np.ndarray = field(repr=False)

    def __float__(self) -> float:
        return self.nats

    @property
    def perplexity(self) -> float:
        """exp of the nats per token."""
        return math.exp(self.nats)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text: comparable across tokenizers."""
        return float(self.sums.sum()) / math.log(2) / max(1, self.bytes)

    def minus(self, other: Score) -> Difference:
        """This score minus another on the same documents, paired: far tighter than the difference of two intervals.

        Raises:
            AddendaError: the two were not taken on the same documents.
        """
        if len(self.counts) != len(other.counts) or not (self.counts == other.counts).all():
            raise AddendaError(f"scores on different documents cannot be paired: '{self.on}' and '{other.on}'")
        ratio = of_ratio(self.sums - other.sums, self.counts)
        return Difference(ratio.value, ratio.low, ratio.high, self.documents)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        plain = {name: getattr(self, name) for name in ("nats", "low", "high", "tokens", "bytes", "documents", "on")}
        return plain | {"perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}


@own_modes()
def score(
    base: Frozen,
    source: Any,
    *,
    length: int | None = None,
    stride: int | None = None,
    tokens: int | None = None,
    batch_tokens: int = 4096,
    precision: str = "fp32",
    head: Head | None = None,
    before: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Score:
    """Score a base, with its current selection, on texts; see `measuring.perplexity` for the settings.

    `before`, for whom text in the window stands in place of modules, is given the token ids [n] of a document that precede a
    window, and returns ids to read, unscored, ahead of the window.

    Between two batches it tells how far it is, and may be stopped (`addenda.telling.progress.tick`).

    Raises:
        DataError: the text cannot be read, or holds no token to score.
        AddendaError: a setting is out of range. `Stopped` after a signal, where whoever calls waits for it.
    """
    opened = texts(source)
    _check_sizes(length=length, stride=stride, tokens=tokens, batch_tokens=batch_tokens)
    head = head or Head(base.model)
    encoder = Encoder(base.tokenizer, head.vocabulary)
    documents = encoded_documents(encoder, opened, tokens, length or default_length(base))
    more: dict[str, Any] = {"batch_tokens": batch_tokens, "precision": precision, "head": head, "before": before}
    return score_documents(base, documents, opened.name, length=length, stride=stride, **more)


def _check_sizes(**sizes: Any) -> None:
    for name, size in sizes.items():
        if size is not None and (not isinstance(size, Integral) or isinstance(size, bool) or int(size) < 1):
            raise AddendaError(f"{name} must be a whole number from 1; got {size!r}")


@own_modes()
def score_documents(
    base: Frozen,
    documents: Iterable[Encoded],
    on: str,
    *,
    length: int | None = None,
    stride: int | None = None,
    batch_tokens: int = 4096,
    precision: str = "fp32",
    head: Head | None = None,
    before: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Score:
    """As `score`, of documents as `encoded_documents` gives them; `on` is what the text is called."""
    _check_sizes(length=length, stride=stride, batch_tokens=batch_tokens)
    length = length or default_length(base)
    stride = stride or length
    if not length >= 2 or not 1 <= stride <= length:
        raise AddendaError(f"scoring needs 1 <= stride <= length and length >= 2; got stride {stride}, length {length}")
    head = head or Head(base.model)
    sums: dict[int, float] = {}
    counts, sizes, waiting = [], [], []
    for number, document in enumerate(documents):
        windows = _windows(document, length, stride, before)
        counts.append(int(sum(w[1].sum() for w in windows)))
        sizes.append(document.bytes)
        waiting += [(number, *window) for window in windows]
        if len(waiting) >= WINDOWS:
            _run(base, head, waiting, sums, batch_tokens, precision)
            waiting = []
    _run(base, head, waiting, sums, batch_tokens, precision)
    if not sum(counts):
        raise DataError(f"'{on}' holds no token to score")
    each = np.array([sums.get(number, 0.0) for number in range(len(counts))])
    total, whole = np.array(counts), np.array(sizes)
    mean = of_ratio(each, total, within=(0.0, math.inf))
    numbers = (mean.value, mean.low, mean.high, int(total.sum()), int(whole.sum()), len(counts))
    return Score(*numbers, on, each, total, whole)


def default_length(base: Frozen) -> int:
    """512 tokens, or the base's context where that is shorter."""
    return min(512, base.context or 512)


def encoded_documents(encoder: Encoder, records: Any, limit: int | None, length: int = 512) -> Iterator[Encoded]:
    """Documents, each opened by the tokenizer's bos (else eos) so that its first token is scored too, up to a limit.

    A limit is shared out evenly over the beginnings of the first documents: as many as get four windows of `length` tokens, and
    eight at least, where that leaves 128 tokens to each. What short ones leave goes to longer ones, then to those that follow.
    """
    if limit is None:
        yield from (document for document in _opened(encoder, records) if len(document.ids) > 1)
        return
    documents = _opened(encoder, (_beginning(record, CHARACTERS * limit) for record in records))
    documents = (_cut(document, limit) for document in documents if len(document.ids) > 1)
    first = list(islice(documents, max(limit // (STRETCH * length), min(DOCUMENTS, limit // TOKENS_OF_EACH), 1)))
    shares = _shared_out([len(document.ids) - 1 for document in first], limit)
    yield from map(_cut, first, shares)
    left = limit - sum(shares)
    while left > 0 and (document := next(documents, None)) is not None:
        document = _cut(document, left)
        left -= len(document.ids) - 1
        yield document


def _opened(encoder: Encoder, records: Any) -> Iterator[Encoded]:
    """Documents, each with the opener before it."""
    opener = opener_of(encoder.tokenizer)
    for document in encoder.documents(records):
        ids, weights = document.ids, document.weights
        if opener is not None and (not len(ids) or ids[0] != opener):
            ids = np.concatenate([[np.int32(opener)], ids])
            weights = np.concatenate([[np.uint8(0)], weights])
        yield Encoded(ids, weights, document.bytes)


def _cut(document: Encoded, tokens: int) -> Encoded:
    """The beginning of a document, with so many tokens to predict at most."""
    whole = len(document.ids) - 1
    if whole <= tokens:
        return document
    ids, weights = document.ids[: tokens + 1], document.weights[: tokens + 1]
    return Encoded(ids, weights, round(document.bytes * tokens / whole))


def _shared_out(sizes: Sequence[int], limit: int) -> list[int]:
    """A limit as evenly over documents of some sizes as these allow, at least a token for each."""
    shares, left = [1] * len(sizes), limit
    for rank, at in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[at] = max(1, min(sizes[at], left // (len(sizes) - rank)))
        left -= shares[at]
    return shares


def _beginning(record: Any, characters: int) -> Any:
    """A record of running text without what is not read of it: a book need not be tokenized for a page."""
    text = record.get("text")
    return {"text": text[:characters]} if text is not None and len(text) > characters else record


@torch.no_grad()
def pace_of(base: Frozen) -> float:
    """Tokens a second that the base reads and scores on this machine, from a second or two of random tokens."""
    head, draw = Head(base.model), torch.Generator().manual_seed(0)
    length, rows, pace = min(64, base.context or 64), 1, 0.0
    with base.off(), evaluating(base.model):
        for _ in range(3):  # the first warms up, and each tells how much the next can afford
            ids = torch.randint(head.vocabulary, (rows, length + 1), generator=draw).to(base.device)
            began = time.perf_counter()
            weights = torch.ones(rows * length, device=base.device)
            _, costs = head.costs(likelihood(), head.hidden(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), weights)
            float(costs.sum())  # waits for a GPU
            pace = max(pace, rows * length / (time.perf_counter() - began))  # something else may run beside one of them
            rows = max(1, min(16, int(pace / length)))
    return pace


def opener_of(tokenizer: Any) -> int | None:
    """The token before a text's first: the tokenizer's bos, else its eos, so that the first is predicted too."""
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id


def _windows(
    document: Encoded, length: int, stride: int, before: Callable[[np.ndarray], np.ndarray] | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids [n + 1] and the loss weight of each prediction [n], n <= length and what is read ahead; each counts once."""
    ids, weights = document.ids, document.weights
    windows = []
    for begin in range(0, len(ids) - 1, stride):
        end, start = min(begin + stride, len(ids) - 1), max(0, begin - (length - stride))
        counted = weights[start + 1 : end + 1].copy()
        counted[: begin - start] = 0
        if not counted.any():
            continue
        window = ids[start : end + 1]
        if before is not None:
            ahead = before(ids[:start]).astype(ids.dtype)
            window, counted = (
                np.concatenate([ahead, window]),
                np.concatenate([np.zeros(len(ahead), counted.dtype), counted]),
            )
        windows.append((window, counted))
    return windows


def _run(
    base: Frozen, head: Head, windows: list[Any], sums: dict[int, float], batch_tokens: int, precision: str
) -> None:
    """Add the nats of windows to their documents' sums, longest windows first, in batches of like length."""
    windows = sorted(windows, key=lambda window: -len(window[1]))
    while windows:
        rows = max(1, batch_tokens // len(windows[0][1]))
        batch, windows = windows[:rows], windows[rows:]
        for (number, *_), nats in zip(batch, _nats(base, head, batch, precision), strict=True):
            sums[number] = sums.get(number, 0.0) + nats
        tick(sum(int((window[2] > 0).sum()) for window in batch))


@torch.no_grad()
def _nats(base: Frozen, head: Head, batch: list[Any], precision: str) -> list[float]:
    device = base.device
    width = len(batch[0][2])
    ids = torch.zeros(len(batch), width + 1, dtype=torch.long)
    weights = torch.zeros(len(batch), width)
    for row, (_, tokens, counted) in enumerate(batch):
        ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        weights[row, : len(counted)] = torch.from_numpy(counted.astype(np.float32))
    real = torch.tensor([len(counted) for _, _, counted in batch])
    mask = None if bool((real == width).all()) else (torch.arange(width) < real[:, None]).long().to(device)
    ids, weights = ids.to(device), weights.to(device)
    with evaluating(base.model), cast(device, precision):
        hidden = head.hidden(ids[:, :-1], attention_mask=mask)
        _, costs = head.costs(likelihood(), hidden.flatten(0, 1), ids[:, 1:].flatten(), weights.flatten())
    return costs.view(weights.shape).double().sum(1).tolist()


def fast_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision that a device computes fast in: "bf16" where it has products of its own for it, else "fp32"."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        able = torch.cpu.get_capabilities()
        fast = device.type == "cpu" and any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if fast else "fp32"


def cast(device: torch.device, precision: str) -> Any:
    """Autocast to bfloat16 for "bf16"; none for "fp32", whatever the caller has set.

    Raises:
        AddendaError: another precision is asked for.
    """
    if precision not in ("fp32", "bf16"):
        raise AddendaError(f"precision is 'fp32' or 'bf16'; got {precision!r}")
    if precision == "fp32" and not torch.is_autocast_enabled(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
