"""Looking at what a module knows of a text: the bare base, the module as it was, and as it is now, in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda.core.errors import DataError
from addenda.core.modes import evaluating
from addenda.core.module import KnowledgeModule
from addenda.measuring.looking.pieces import evenly
from addenda.objectives.head import Head
from addenda.plug.continuing import continued
from addenda.plug.scoring import encoded_documents
from addenda.telling.intervals import SHARE, Interval, of_mean, of_ratio
from addenda.telling.progress import tick
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of one forward pass
PASS = 4096
#: pieces whose continuation is asked for; tokens given and tokens asked of each; the fewest tokens of a piece
PIECES, GIVEN, ASKED, LEAST = 48, 32, 32, 8
#: the states that are looked at
BARE, BEFORE, AFTER = range(3)


@dataclass(frozen=True)
class Three:
    """One number of the bare base, and of the module before and after."""

    bare: Interval
    before: Interval
    after: Interval

    def __str__(self) -> str:
        return f"{self.before.value:.1%} -> {self.after.value:.1%} (the bare base {self.bare.value:.1%})"


@dataclass(frozen=True)
class Look:
    """What is known of a text; intervals are over documents.

    `loss` is in nats per token, `change` how much it grew, paired; `recall` the share of tokens that were the likeliest, the
    true text standing before them; `kl` the divergence of the next-token distribution after from that before, nats per token;
    `extraction` the share of the next 32 tokens written right, greedily, after 32 of the text, None where it is too short.
    """

    on: str
    documents: int
    tokens: int
    loss: Three
    change: Interval
    recall: Three
    kl: Interval
    extraction: Three | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Look:
        """The look that `as_dict` gave."""
        made = {key: Interval(**plain[key]) for key in ("change", "kl")}
        three = {key: _three(plain[key]) for key in ("loss", "recall", "extraction")}
        return cls(plain["on"], plain["documents"], plain["tokens"], **made, **three)


def _three(plain: Mapping[str, Any] | None) -> Any:
    return None if plain is None else Three(**{name: Interval(**plain[name]) for name in ("bare", "before", "after")})


def look(
    base: Base, module: KnowledgeModule, before: Mapping[str, Tensor], source: Texts, *, tokens: int, length: int
) -> Look:
    """Read a text with the module off, as it was `before` (tensors as `module.tensors()` names them), and as it is.

    Args:
        base: with the module plugged; its own selection is put back after.
        module: as it is now.
        before: its tensors as they were.
        source: the text.
        tokens: read at most.
        length: of the windows that documents are cut into.

    Raises:
        DataError: the text holds no token to predict.
    """
    after = {name: tensor.clone() for name, tensor in module.tensors().items()}
    states = (None, before, after)
    encoder = Encoder(base.tokenizer, base.vocabulary)
    documents = list(encoded_documents(encoder, source, tokens))
    sums = _Sums(len(documents))
    with base.off():
        head = Head(base.model)
    try:
        for batch in _batches(documents, length):
            _read(base, module, head, states, batch, sums)
        asked = _extracted(base, module, states, [document.ids for document in documents])
    finally:
        module.load_tensors(after)
    if not sums.counts.sum():
        raise DataError(f"'{source.name}' holds no token to predict")
    loss, right = ([of_ratio(each, sums.counts) for each in what] for what in (sums.nats, sums.right))
    return Look(
        on=source.name,
        documents=len(documents),
        tokens=int(sums.counts.sum()),
        loss=Three(*loss),
        change=of_ratio(sums.nats[AFTER] - sums.nats[BEFORE], sums.counts),
        recall=Three(*right),
        kl=of_ratio(sums.kl, sums.counts, within=(0.0, math.inf)),
        extraction=asked,
    )


@dataclass
class _Sums:
    """Sums over the tokens of each document [documents], in each state."""

    documents: int
    nats: np.ndarray = field(init=False)
    right: np.ndarray = field(init=False)
    kl: np.ndarray = field(init=False)
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.nats, self.right = np.zeros((3, self.documents)), np.zeros((3, self.documents))
        self.kl, self.counts = np.zeros(self.documents), np.zeros(self.documents)


@contextmanager
def _as(base: Base, module: KnowledgeModule, state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """The module with these tensors, alone at 1.0; off for None."""
    if state is not None:
        module.load_tensors(state)
    with base.off() if state is None else base.using({module.name: 1.0}):
        yield


#: a window: its document's number, token ids [n + 1], and which of the n predictions count
_Window = tuple[int, np.ndarray, np.ndarray]


def _batches(documents: list[Any], length: int) -> Iterator[list[_Window]]:
    """Windows side by side, those of like length together."""
    windows = [
        (number, document.ids[at : at + length + 1], document.weights[at + 1 : at + length + 1])
        for number, document in enumerate(documents)
        for at in range(0, len(document.ids) - 1, length)
    ]
    windows.sort(key=lambda window: -len(window[2]))
    while windows:
        rows = max(1, PASS // len(windows[0][2]))
        yield windows[:rows]
        windows = windows[rows:]


@torch.no_grad()
def _read(base: Base, module: KnowledgeModule, head: Head, states: Any, batch: list[_Window], sums: _Sums) -> None:
    width = len(batch[0][2])
    ids, counted = torch.zeros(len(batch), width + 1, dtype=torch.long), torch.zeros(len(batch), width)
    for row, (_, tokens, weights) in enumerate(batch):
        ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        counted[row, : len(weights)] = torch.from_numpy((weights > 0).astype(np.float32))
    real = torch.tensor([len(weights) for _, _, weights in batch])
    mask = None if bool((real == width).all()) else (torch.arange(width) < real[:, None]).long().to(base.device)
    ids, chosen = ids.to(base.device), counted.flatten().nonzero().squeeze(-1).to(base.device)
    targets, hidden = ids[:, 1:].flatten()[chosen], []
    for state in states:
        with _as(base, module, state), evaluating(base.model):
            hidden.append(head.hidden(ids[:, :-1], attention_mask=mask).flatten(0, 1)[chosen])
    of = np.array([number for number, _, _ in batch])[(chosen // width).cpu().numpy()]
    for at in range(0, len(chosen), head.chunk):
        part = slice(at, at + head.chunk)
        scores = [head.logits(each[part]).log_softmax(-1) for each in hidden]
        for state, score in enumerate(scores):
            nats = -score.gather(1, targets[part, None]).squeeze(1).double().cpu().numpy()
            right = (score.argmax(1) == targets[part]).double().cpu().numpy()
            np.add.at(sums.nats[state], of[part], nats)
            np.add.at(sums.right[state], of[part], right)
        kl = (scores[BEFORE].exp() * (scores[BEFORE] - scores[AFTER])).sum(1).double().cpu().numpy()
        np.add.at(sums.kl, of[part], kl)
        np.add.at(sums.counts, of[part], 1.0)
    tick(len(chosen))


def _extracted(base: Base, module: KnowledgeModule, states: Any, documents: list[np.ndarray]) -> Three | None:
    """What is written right after the beginning of pieces of documents; None where all are too short."""
    size = min(GIVEN + ASKED, max(map(len, documents), default=0), base.context or GIVEN + ASKED)
    if size < LEAST:
        return None
    cut = [[ids[at : at + size] for at in range(0, len(ids) - size + 1, size)] for ids in documents]
    pieces = evenly(cut, PIECES)
    given = size // 2
    prompts = [torch.from_numpy(ids[:given].astype(np.int64)) for _, ids in pieces]
    shares: list[Interval] = []
    for state in states:
        with _as(base, module, state):
            answers = continued(base, prompts, tokens=size - given)
        right = [
            float(np.mean([a == b for a, b in zip([*answer, *[-1] * size], ids[given:].tolist(), strict=False)]))
            for answer, (_, ids) in zip(answers, pieces, strict=True)
        ]
        shares.append(of_mean(right, [number for number, _ in pieces], SHARE))
    return Three(*shares)
