"""The nearest fold of a gated module: its units without their gate, values refitted on text, and what that loses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from addenda.bases.folding import check_units
from addenda.combining.proof import logits_of, loss_of
from addenda.core.activations import activation
from addenda.core.call import Share
from addenda.core.contribution import Contribution
from addenda.core.errors import AddendaError, DataError, UnsupportedError
from addenda.core.modes import evaluating
from addenda.core.module import KnowledgeModule
from addenda.core.plain import Plain
from addenda.core.site import Seam
from addenda.core.units import Units
from addenda.telling.changes import counted, learned_or_forgot
from addenda.telling.progress import tick
from addenda.text.encoding import Encoder
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of a row, rows read of each text, and which of them are only measured on: every eighth
LENGTH, ROWS, HELD = 256, 256, 8
#: ridge of the least squares, in shares of the mean square of a unit's activation
RIDGE = 1e-3


@dataclass(frozen=True)
class Loss:
    """Loss in nats per token on rows of a text that were not fitted on: bare base, module plugged, module folded."""

    text: str
    tokens: int
    bare: float
    plugged: float
    merged: float

    def __str__(self) -> str:
        return (
            f"{self.text}: base {self.bare:.4f}, plugged {self.plugged:.4f} "
            f"({learned_or_forgot(self.plugged - self.bare, 4)}), merged {self.merged:.4f} "
            f"({learned_or_forgot(self.merged - self.bare, 4)}), on {self.tokens:,} tokens"
        )


@dataclass(frozen=True)
class Approximation(Plain):
    """What gated modules lose that are folded without their gates.

    `fitted_on` tokens of the same texts their values were refitted; 0 where they are as trained.
    """

    modules: tuple[str, ...]
    fitted_on: int
    losses: tuple[Loss, ...]

    def __str__(self) -> str:
        how = f", an approximation fitted on {self.fitted_on:,} tokens" if self.fitted_on else ""
        first = f"{', '.join(self.modules)} without gates{how}; loss:"
        lines = [first, *(f"  {loss}" for loss in self.losses)]
        if len(self.losses) == 1:
            lines.append(
                "  remark: one text alone tells half: give the option twice, with text of the subject and with general text"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Text:
    """Rows of token ids [T] of a text: to fit on, and held out."""

    name: str
    fit: list[Tensor]
    held: list[Tensor]


def can(module: KnowledgeModule) -> bool:
    """Whether a module stands beside FFNs, with a gate between it and plain weights."""
    return (bool(module.gates()) or module.classifies) and all(
        module.adapter(key).seam is Seam.FFN for key in module.sites()
    )


def read(base: Base, sources: Sequence[Any], tokens: int | None = None, *, as_they_are: bool = False) -> list[Text]:
    """Rows of the texts to fit on, those of the subject and general ones; nothing for no texts. A lone path is one text.

    Of each some `tokens` are read: 65,536, an eighth of which are measured on; `as_they_are` 8,192, all of them measured on.

    Raises:
        DataError: one cannot be read, or is too short to hold rows out.
        AddendaError: the base has no tokenizer.
    """
    if not sources:
        return []
    # as they are, modules are only measured: nothing is fitted, and all rows are held out
    most = max(HELD, -(-(tokens or (ROWS // HELD * LENGTH if as_they_are else ROWS * LENGTH)) // LENGTH))
    sources = [sources] if isinstance(sources, str | Path) else sources
    if base.tokenizer is None:
        raise AddendaError(
            "what is lost without a gate is measured on text, and the base has no tokenizer: addenda.attach(model, tokenizer)"
        )
    encoder = Encoder(base.tokenizer, base.vocabulary)
    length = min(LENGTH, base.context or LENGTH)
    prepared: list[Text] = []
    for source in map(texts, sources):
        rows = list(islice(_rows(encoder, source, length), most))
        if len(rows) < HELD:
            raise DataError(
                f"'{source.name}' is too short to tell what is lost: it makes {counted(len(rows), 'piece')} of up to {length} "
                f"tokens, and {HELD} are needed; give a longer text, or more documents"
            )
        held = rows if as_they_are else rows[HELD - 1 :: HELD]
        fit = [] if as_they_are else [row for n, row in enumerate(rows) if n % HELD != HELD - 1]
        prepared.append(Text(source.name, fit, held))
    return prepared


def _rows(encoder: Encoder, source: Any, length: int) -> Iterator[Tensor]:
    for document in encoder.documents(source):
        ids = torch.from_numpy(document.ids.astype("int64"))
        yield from (row for row in ids.split(length) if len(row) > 1)


@torch.no_grad()
def fit(
    base: Base, weights: Mapping[str, float], names: Sequence[str], sources: Sequence[Text]
) -> dict[str, dict[str, Units]]:
    """Units for each of `names`, by the keys of their sites, that add nearest to what the gated module adds.

    Keys and gates of the units are kept; values V [F, D] minimise the mean over tokens of |V^T h(x) - delta(x)|^2, delta
    being what the module contributed with its gate and weight, h the units' activations [F] under the base's activation.

    Raises:
        UnsupportedError: a module is not made of units of an FFN.
    """
    shape = base.anatomy.ffn
    assert shape is not None
    act = activation(shape.activation)
    if act is None:
        raise UnsupportedError(f"the activation '{shape.activation}' of this base's FFNs is not known here")
    sums = {
        name: {key: _Sums(base, base.modules[name], key, act) for key in base.modules[name].sites()} for name in names
    }

    def observe(share: Share, site: str, **facts: Any) -> None:
        if share.name in sums and "contribution" in facts:
            sums[share.name][site].add(facts["x"], facts["contribution"])

    with base.using(dict(weights)), evaluating(base.model), base.watching(observer=observe):
        for row in (row for text in sources for row in text.fit):
            tick(len(row))
            base.model(input_ids=row[None].to(base.device), use_cache=False)
    return {name: {key: system.solved() for key, system in each.items()} for name, each in sums.items()}


class _Sums:
    """The least squares of one adapter, gathered as text runs by: h h^T [F, F] and h delta^T [F, D]."""

    def __init__(self, base: Base, module: KnowledgeModule, key: str, act: Any) -> None:
        self.units, self.act = module.adapter(key).units(), act
        check_units(base.anatomy, replace(self.units, activation=None))  # values are fitted to the base's activation
        slots, width = self.units.values.shape
        self.squares = torch.zeros(slots, slots, dtype=torch.float64)
        self.targets = torch.zeros(slots, width, dtype=torch.float64)

    def add(self, entered: Tensor, contribution: Contribution | None) -> None:
        """One row's tokens [1, T, D] as they entered the site, and what the adapter added."""
        entered = entered.float()
        x = entered.flatten(0, -2)
        read = x @ self.units.up.to(x).T
        h = self.act(read) if self.units.gate is None else self.act(x @ self.units.gate.to(x).T) * read
        self.squares += (h.T @ h).cpu()
        if contribution is not None:
            delta = contribution.add_to(torch.zeros_like(entered)).flatten(0, -2)
            self.targets += (h.T @ delta).cpu()

    def solved(self) -> Units:
        """The units with their new values."""
        ridge = RIDGE * self.squares.diagonal().mean().clamp(min=1e-30)
        eye = torch.eye(len(self.squares), dtype=torch.float64)
        values = torch.linalg.solve(self.squares + ridge * eye, self.targets)
        return Units(self.units.up, values.float(), self.units.gate)


@torch.no_grad()
def measure(
    base: Base,
    weights: Mapping[str, float],
    folder: Path,
    dtype: torch.dtype,
    names: Sequence[str],
    sources: Sequence[Text],
) -> Approximation:
    """Loss of the bare base, of the plugged modules and of the checkpoint, loaded by transformers alone, on held-out rows."""
    loader: Any = AutoModelForCausalLM
    merged = loader.from_pretrained(folder, dtype=dtype, attn_implementation=base.model.config._attn_implementation).to(
        base.device
    )
    losses: list[Loss] = []
    for text in sources:
        with base.off():
            bare = _loss(base.model, text.held)
        with base.using(dict(weights)):
            plugged = _loss(base.model, text.held)
        loss = _loss(merged, text.held)
        if not math.isfinite(loss):
            told = str(dtype).removeprefix("torch.")
            raise AddendaError(f"nothing was written: the merged model's loss on {text.name} is {loss} in {told}")
        losses.append(Loss(text.name, sum(len(row) - 1 for row in text.held), bare, plugged, loss))
    return Approximation(tuple(names), sum(len(row) for text in sources for row in text.fit), tuple(losses))


def _loss(model: Any, rows: Sequence[Tensor]) -> float:
    """Nats per token, one row's logits in memory at a time."""
    sums = [loss_of(logits_of(model, [row]), [row]) * (len(row) - 1) for row in rows]
    return sum(sums) / sum(len(row) - 1 for row in rows)
