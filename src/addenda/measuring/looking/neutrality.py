"""Neutrality: the share of general tokens that a module leaves bit-equal, and thresholds calibrated for a stated share.

A token is left alone when nothing before it in its document was touched either, but for what the last layer does:
attention would carry that on. So shares are taken at several document lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from addenda.bases.hooks import of_this_thread
from addenda.core.call import Share
from addenda.core.card import Measure
from addenda.core.contracts import AttentionAdapter
from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating, own_modes
from addenda.core.module import plugged
from addenda.core.plain import Plain
from addenda.measuring.looking.pieces import documents_of, foretell_calibration
from addenda.objectives.head import Head
from addenda.text.texts import Texts, texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens read at each length
TOKENS = 20_000
#: added to a calibrated threshold, relative: the last bits of a score depend on the batch it is computed in
MARGIN = 1e-5
#: thresholds that are told one by one
MANY = 4
#: what a card calls the share: it is of the text that set the thresholds, so other text may well give less
CALIBRATED = "left alone on the calibration text"


@dataclass(frozen=True)
class NeutralShare(Plain):
    """What a module leaves alone.

    `share` is the mean over document lengths of the share of tokens whose logits are bit-equal to the bare base's;
    `by_length` the share at each length; `live` by site the share of tokens that the module's gate lets through (1.0
    where a kind has none); `tokens` the number compared.
    """

    share: float
    by_length: dict[int, float]
    live: dict[str, float]
    tokens: int
    on: str

    def __float__(self) -> float:
        return self.share


@dataclass(frozen=True)
class Calibration:
    """Thresholds by site, the share asked for, and the share then measured on the same text.

    `before` has the thresholds that were there, and `share_before` what they left alone, going by the gates alone.
    """

    thresholds: dict[str, float]
    asked: float
    measured: NeutralShare
    before: dict[str, float]
    share_before: float

    def __str__(self) -> str:
        lengths = ", ".join(f"{share:.1%} at {length}" for length, share in self.measured.by_length.items())
        same = self.thresholds == self.before
        moved = ", ".join(f"{key} {self.before[key]:.4g} -> {value:.4g}" for key, value in self.thresholds.items())
        return (
            f"tokens of '{self.measured.on}' left bit-equal: {self.share_before:.1%} before, {self.measured.share:.1%} now "
            f"({self.asked:.0%} asked)\nby length of the document: {lengths}\n"
            + (f"thresholds: as they were: {self._alike(moved)}" if same else f"thresholds: {self._alike(moved)}")
        )

    def _alike(self, moved: str) -> str:
        """Thresholds in words, of many the least and the most."""
        if len(self.thresholds) <= MANY:
            return moved
        before, now = sorted(self.before.values()), sorted(self.thresholds.values())
        return f"{len(now)} gates, {before[0]:.4g} to {before[-1]:.4g} -> {now[0]:.4g} to {now[-1]:.4g}"


@torch.no_grad()
def neutral_share(
    base: Base, name: str, texts: Any, *, lengths: Sequence[int] | None = None, tokens: int = TOKENS
) -> NeutralShare:
    """Share of tokens that a module, alone at weight 1, leaves bit-equal at the logits.

    Args:
        base: with the module plugged.
        name: of the module.
        texts: general text, whatever `addenda.train` takes as a corpus.
        lengths: document lengths in tokens; texts are cut into documents of each. Default: 64 to 512.
        tokens: read at each length, from as many documents as there are.

    Raises:
        DataError: no text is as long as the shortest length.
        AddendaError: no such module is plugged.
    """
    plugged(base.modules, name)
    source, seen = _source(texts), _Live(name)
    equal: dict[int, list[Tensor]] = {}
    with evaluating(base.model), base.off():
        head = Head(base.model)
        for length, ids in documents_of(base, source, lengths, tokens):
            bare = head.hidden(ids)
            with base.using({name: 1.0}), base.watching(observer=seen.observe):
                seen.shape = ids.shape
                equal.setdefault(length, []).append(_same(head, bare, head.hidden(ids)))
    by_length = {length: float(torch.cat(parts).float().mean()) for length, parts in equal.items()}
    count = sum(part.numel() for parts in equal.values() for part in parts)
    return NeutralShare(float(np.mean(list(by_length.values()))), by_length, seen.shares(), count, source.name)


@own_modes()
def calibrate(
    base: Base,
    name: str,
    texts: Any,
    share: float = 0.9,
    *,
    per: Literal["layer", "module"] = "layer",
    lengths: Sequence[int] | None = None,
    tokens: int = TOKENS,
) -> Calibration:
    """Set a module's thresholds so that at least a share of general tokens is left exactly alone.

    A gate is never opened further than it was trained: the threshold of a document gate stays at least as fitted, that
    of other gates at zero. The share then measured goes into the module's card, named as one on the calibration text: how much of
    other text is left alone, `neutral_share` tells.

    Args:
        base: with the module plugged.
        name: of the module; its kind must have a gate.
        texts: general text that was not trained on, whatever `addenda.train` takes as a corpus.
        share: of tokens to leave bit-equal, the mean over document lengths, from 0 up to 1.
        per: for token gates, one threshold for each layer at a common quantile, or one for the whole module. A context
            gate has one.
        lengths: document lengths in tokens. Default: 64 to 512.
        tokens: read at each length.

    Raises:
        AddendaError: no such module, no gate, or a share out of range.
        DataError: no text is as long as the shortest length.
    """
    module = plugged(base.modules, name)
    if not 0 <= share < 1:
        raise AddendaError(f"share is a share of tokens from 0 up to, not including, 1; got {share}")
    if per not in ("layer", "module"):
        raise AddendaError(f"per is 'layer' or 'module'; got {per!r}")
    gates = _gates(base, name)
    source = _source(texts)
    foretell_calibration(base, name, source, lengths, tokens)
    before = {key: float(threshold) for key, threshold in _buffers(gates).items()}
    with torch.no_grad(), _kept_on_error(_buffers(gates)):
        for key, threshold in _buffers(gates).items():
            threshold.fill_(torch.inf if key == "gate" else 0.0)  # a module's own gate is read whole, and shut
        values, weights = _values(base, name, gates, source, lengths, tokens)
        thresholds = _thresholds(values, weights, share, per)
        share_before = _alone(values, weights, before)
        for key, threshold in _buffers(gates).items():
            threshold.fill_(max(thresholds[key], gates[key].floor if key == "gate" else 0.0))
    if module.probe is not None and _silent(base, name, module.probe):
        module.probe = None  # it was chosen while the gate stood further open
    measured = neutral_share(base, name, source, lengths=lengths, tokens=tokens)
    _record(module, source, measured)
    return Calibration({key: float(t) for key, t in _buffers(gates).items()}, share, measured, before, share_before)


# --- reading ---------------------------------------------------------------------------------------------------------


def _source(source: Any) -> Texts:
    return texts(source)


@contextmanager
def _kept_on_error(buffers: dict[str, Tensor]) -> Iterator[None]:
    """Put buffers back as they were where the block raises."""
    before = {key: buffer.clone() for key, buffer in buffers.items()}
    try:
        yield
    except BaseException:
        for key, buffer in buffers.items():
            buffer.copy_(before[key])
        raise


@torch.no_grad()
def _silent(base: Base, name: str, ids: list[int]) -> bool:
    """Whether a module leaves the logits of some token ids as they are."""
    row = torch.tensor([ids], device=base.device)
    with evaluating(base.model):
        with base.off():
            bare = base.model(input_ids=row, use_cache=False).logits
        with base.using({name: 1.0}):
            return torch.equal(bare, base.model(input_ids=row, use_cache=False).logits)


def _same(head: Head, bare: Tensor, with_module: Tensor) -> Tensor:
    """Which tokens [B, T] have bit-equal logits, from their states [B, T, D]."""
    bare, with_module = bare.flatten(0, 1), with_module.flatten(0, 1)
    if bare.shape == with_module.shape:
        same = (bare == with_module).all(-1)
    else:  # a module that has a say at the head sends its part along with the states
        same = torch.zeros(len(bare), dtype=torch.bool, device=bare.device)
    for rest in (~same).nonzero().squeeze(-1).split(head.chunk):
        same[rest] = (head.logits(bare[rest]) == head.logits(with_module[rest])).all(-1)
    return same


class _Live:
    """Counts, site by site, how many tokens a module's gate lets through."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shape: tuple[int, ...] = ()
        self.counts: dict[str, list[float]] = {}

    def observe(self, share: Share, site: str, **facts: Any) -> None:
        """Called at each site as it runs."""
        if share.name != self.name:
            return
        total = float(np.prod(self.shape))
        live = total
        if isinstance(facts.get("gate"), Tensor):
            live = float((facts["gate"] != 0).sum())
        elif "contribution" in facts:
            part = facts["contribution"]
            live = 0.0 if part is None else total
            if part is not None and part.index is not None:
                live = float(len(part.index))
            elif part is not None and part.live is not None:
                live = float(part.live.sum())
        held = self.counts.setdefault(site, [0.0, 0.0])
        held[0] += live
        held[1] += total

    def shares(self) -> dict[str, float]:
        """Live share by site."""
        return {site: live / total for site, (live, total) in self.counts.items()}


# --- calibrating -----------------------------------------------------------------------------------------------------

#: as `KnowledgeModule.gates` gives them
Gates = dict[str, Any]


def _gates(base: Base, name: str) -> Gates:
    module = base.modules[name]
    gates = module.gates()
    if not gates and module.classifies:
        raise AddendaError(f"'{name}' has a gate that is never quite shut: there is no threshold to calibrate")
    if not gates:
        raise AddendaError(f"'{name}' is of the kind {type(module.kind).__name__}, which has no gate to calibrate")
    return gates


def _buffers(gates: Gates) -> dict[str, Tensor]:
    return {key: gate.threshold for key, gate in gates.items()}


def _values(
    base: Base, name: str, gates: Gates, source: Texts, lengths: Sequence[int] | None, tokens: int
) -> tuple[dict[str, list[Tensor]], list[float]]:
    """By gate, [B, T] for each batch, the largest value over the bare base's activations that a token feels.

    A token feels its own gates and, through attention, those of the tokens before it in all layers but the last. The
    second result is the weight of a token in each batch.
    """
    last = base.anatomy.layers - 1
    layers = {key: base.host.site(key).layer for key in base.modules[name].sites()}
    felt = {key: (min(layers.values()) if key == "gate" else layers[key]) < last for key in gates}
    values: dict[str, list[Tensor]] = {key: [] for key in gates}
    seen: dict[str, Tensor] = {}
    sizes: list[tuple[int, int]] = []
    with evaluating(base.model), ExitStack() as stack:
        if "gate" in gates:

            def observer(share: Share, site: str, **facts: Any) -> None:
                if share.name == name and site == gates["gate"].site and isinstance(facts.get("statistic"), Tensor):
                    seen["gate"] = facts["statistic"]

            # what the gate reads lies below all that the module changes
            stack.enter_context(base.using({name: 1.0}))
            stack.enter_context(base.watching(observer=observer))
        else:
            stack.enter_context(base.off())
            stack.enter_context(_reading(base, gates, seen))
        for length, ids in documents_of(base, source, lengths, tokens):
            base.model.base_model(input_ids=ids, use_cache=False)
            for key, value in seen.items():
                value = value.float().view(ids.shape)  # some architectures flatten rows
                values[key].append(value.cummax(1).values if felt[key] else value)
            sizes.append((length, ids.numel()))
    per_length = {length: sum(n for other, n in sizes if other == length) for length, _ in sizes}
    return values, [1.0 / (len(per_length) * per_length[length]) for length, _ in sizes]


@contextmanager
def _reading(base: Base, gates: Gates, seen: dict[str, Tensor]) -> Iterator[None]:
    """Read token gates from the inputs of their sites."""
    handles = []
    for key, adapter in gates.items():
        entry = base.host.submodule(base.host.site(key).entry)
        handles.append(entry.register_forward_pre_hook(of_this_thread(_reader(key, adapter, seen)), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reader(key: str, adapter: Any, seen: dict[str, Tensor]) -> Callable[..., None]:
    read_gate = adapter.mix if isinstance(adapter, AttentionAdapter) else adapter.gate

    def read(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[key] = read_gate(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    return read


def _thresholds(values: dict[str, list[Tensor]], weights: list[float], share: float, per: str) -> dict[str, float]:
    """The lowest thresholds, none below zero, under which tokens of a total weight of `share` are left alone."""
    if share == 0:
        return dict.fromkeys(values, 0.0)
    if per == "layer" and len(values) > 1:
        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            if _alone(values, weights, _at_quantile(values, middle)) >= share:
                high = middle
            else:
                low = middle
        return _at_quantile(values, high)
    largest = [torch.stack(parts).amax(0) for parts in zip(*values.values(), strict=True)]
    flat = torch.cat([part.flatten() for part in largest])
    weight = torch.cat(
        [torch.full((part.numel(),), w, dtype=torch.float64) for part, w in zip(largest, weights, strict=True)]
    )
    flat, order = flat.cpu().sort()
    at = int((weight[order].cumsum(0) < share - 1e-9).sum())
    return dict.fromkeys(values, _raised(float(flat[min(at, len(flat) - 1)])))


def _at_quantile(values: dict[str, list[Tensor]], quantile: float) -> dict[str, float]:
    thresholds = {}
    for key, parts in values.items():
        flat = torch.cat([part.flatten() for part in parts]).cpu().sort().values
        thresholds[key] = _raised(float(flat[min(len(flat) - 1, int(quantile * len(flat)))]))
    return thresholds


def _alone(values: dict[str, list[Tensor]], weights: list[float], thresholds: dict[str, float]) -> float:
    """Weight of the tokens that feel no gate above its threshold."""
    total = 0.0
    for batch, weight in enumerate(weights):
        passed = torch.stack([values[key][batch] > thresholds[key] for key in values]).any(0)
        total += float((~passed).sum()) * weight
    return total


def _raised(value: float) -> float:
    return value * (1 + MARGIN) if value > 0 else 0.0


def _record(module: Any, source: Texts, measured: NeutralShare) -> None:
    measure = Measure(name=CALIBRATED, value=measured.share, unit="share of tokens", n=measured.tokens, on=source.name)
    card = module.card
    card.measures = [m for m in card.measures if (m.name, m.on) != (measure.name, measure.on)] + [measure]
    if card.training:
        last = card.training[-1]
        kept = [record for record in last.data if record.role != "calibration"]
        last.data = [*kept, source.record("calibration")]
