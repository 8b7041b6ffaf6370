"""What one forward pass carries: which modules act on which rows, masks, per-row state, collected penalties.

`RUNTIME.call` is the one place where the hooks in the base find the modules at work. It is thread-local, which
`torch.compile` can trace and guard; a context variable it cannot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.module import KnowledgeModule
from addenda.core.state import KeyValues, rows_on


def _no_weights() -> dict[int, float]:
    return {}  # not `dict[int, float]` as a factory: torch.compile cannot trace that


def _no_key_values() -> dict[str, KeyValues]:
    return {}


@dataclass
class Share:
    """One module's part in a call.

    `rows` is a LongTensor of batch rows, or None for all of them; `weight` a number, or a tensor [R, 1, 1] with one
    weight per row (zero leaves that row bit-equal to the base); `by_row` the same as plain numbers, where known.
    """

    name: str
    module: KnowledgeModule
    rows: Tensor | None
    weight: float | Tensor
    by_row: dict[int, float] = field(default_factory=_no_weights)
    key_values: dict[str, KeyValues] = field(default_factory=_no_key_values)

    def numbers(self, batch: int) -> tuple[int, ...]:
        """The numbers of its rows in a batch."""
        return tuple(range(batch)) if self.rows is None else tuple(self.by_row)


class Choice(NamedTuple):
    """Slots that some token sees [n], all where None, and what is added to their scores for each token [R, T, n]."""

    seen: Tensor | None
    bias: Tensor


class Collector:
    """Gathers, during one forward pass, how much each module disturbs the tokens it should leave alone.

    `token_weight` [B, T] is zero except on the tokens that count; `subject_weight` [B, T] marks likewise the tokens of
    the subject, for which a gate should stand open (None: nothing is asked of it there). Values stay in the autograd
    graph. `within`: the gradient of a layer's value stays within that layer, for what a site gives on to the next is cut
    from the graph; so a forward pass of a frozen base needs no backward pass but those of the adapters. (Registers that
    run through the layers carry theirs along.)
    """

    def __init__(self, token_weight: Tensor, subject_weight: Tensor | None = None, *, within: bool = False) -> None:
        self.token_weight = token_weight
        self.within = within
        self.subject_weight = torch.zeros_like(token_weight) if subject_weight is None else subject_weight
        self.deltas: dict[str, list[Tensor]] = {}
        self.gates: dict[str, list[Tensor]] = {}

    def mean(self, per_token: Tensor, rows: Tensor | None, index: Tensor | None = None) -> Tensor:
        """Mean over the counted tokens of a value per token [R, T], or per indexed token [n], others being zero.

        Layers may be on several devices: each value is averaged where it is, and the mean comes to the counts' device.
        """
        return _mean(per_token, self.token_weight, rows, index)

    def subject_mean(self, per_token: Tensor, rows: Tensor | None) -> Tensor:
        """Mean over the subject's tokens of a value per token [R, T]."""
        return _mean(per_token, self.subject_weight, rows, None)


def _mean(per_token: Tensor, weight: Tensor, rows: Tensor | None, index: Tensor | None) -> Tensor:
    home, weight = weight.device, weight.to(per_token.device)
    total = weight.sum().clamp(min=1.0)
    weight = (weight if rows is None else weight.index_select(0, rows)).flatten()
    mean = (per_token.flatten().float() * (weight if index is None else weight[index])).sum() / total
    return mean.to(home)


@dataclass(frozen=True)
class Watch:
    """What the forwards of a block are watched with."""

    collector: Collector | None = None
    documents: Tensor | None = None
    observer: Callable[..., None] | None = None


class Call:
    """One forward pass of one base under one selection; made at its start, dropped at its end."""

    def __init__(
        self,
        shares: list[Share],
        batch: int,
        length: int,
        mask: Tensor | None = None,
        states: dict[Any, Any] | None = None,
        watch: Watch | None = None,
        starts: Tensor | None = None,
    ) -> None:
        watch = Watch() if watch is None else watch
        self.shares = shares
        self.batch = batch
        self.length = length
        self.mask = mask
        self.starts = starts
        #: where the user begins to speak [B, T], told where a gate asks for it
        self.turns: Tensor | None = None
        #: what was said before a prompt's last turn [B, T], in `generate`
        self.heard: Tensor | None = None
        self.states: dict[Any, Any] = states if states is not None else {}
        self.next_states: dict[Any, Any] = {}
        self.gates: dict[str, Tensor] = {}
        #: by module which of its slots some token sees
        self.choices: dict[str, Choice] = {}
        self.entry: dict[str, Tensor] = {}
        #: by module what head adapters tell the head: what is added to the last state [B, T, D], and the mixing share [B, T, 1]
        self.notes: dict[str, tuple[Tensor, Tensor]] = {}
        #: by module what its adapters around a site note for its next one, and by module and site what each was given
        self.noted: dict[str, Tensor] = {}
        self.given: dict[tuple[str, str], Tensor | None] = {}
        self.collector = watch.collector
        self.observer = watch.observer
        self.recomputing = False
        self._device: torch.device | None = None
        self._index: dict[tuple[int, ...], Tensor] = {}

    def go_to(self, device: torch.device) -> None:
        """Have what is looked up at each site on the device of the site: rows, weights, masks, gates.

        Layers may be on several devices, so this is asked at every site, and mostly does nothing.
        """
        if device == self._device:
            return
        self._device, self._index = device, {}
        for share in self.shares:
            share.rows, share.weight = _on(share.rows, device), _on(share.weight, device)
        self.gates = {name: gate.to(device) for name, gate in self.gates.items()}
        self.choices = {name: Choice(_on(one.seen, device), one.bias.to(device)) for name, one in self.choices.items()}
        self.mask, self.starts = _on(self.mask, device), _on(self.starts, device)
        self.turns, self.heard = _on(self.turns, device), _on(self.heard, device)

    def index_of(self, rows: tuple[int, ...], device: torch.device) -> Tensor:
        """Row numbers on the device of the site, made once for all sites."""
        if rows not in self._index:
            self._index[rows] = rows_on(rows, device)
        return self._index[rows]

    def rows_of(self, tensor: Tensor, share: Share) -> Tensor:
        """The share's rows of a batch-first tensor."""
        return tensor if share.rows is None else tensor.index_select(0, share.rows)

    def mask_of(self, share: Share) -> Tensor | None:
        """Real tokens [R, T] of the share's rows, or None where every token is real."""
        return None if self.mask is None else self.rows_of(self.mask, share)

    def starts_of(self, share: Share, by_turn: bool = False) -> Tensor | None:
        """Where documents begin [R, T] in the share's rows, or None where none does but at a text's beginning.

        With `by_turn` also where the user begins to speak.
        """
        starts = self.starts
        if by_turn and self.turns is not None:
            starts = self.turns if starts is None else starts | self.turns
        return None if starts is None else self.rows_of(starts, share)

    def weight_of(self, share: Share) -> float | Tensor:
        """The share's weight, with the module's own gate folded in: a number, [R, 1, 1] or [R, T, 1]."""
        gate = self.gates.get(share.name)
        if gate is None:
            return share.weight
        return gate if isinstance(share.weight, float) and share.weight == 1.0 else gate * share.weight

    def given_on(self, output: Tensor) -> Tensor:
        """The output of a site as the rest of the base reads it: outside of the graph where gradients stay within layers."""
        return output.detach() if self.collector is not None and self.collector.within else output

    def note_for(self, share: Share, site: str) -> Tensor | None:
        """What the module's site below noted; at a recomputation what it had noted when the forward passed here."""
        if not self.recomputing:
            self.given[share.name, site] = self.noted.get(share.name)
        return self.given[share.name, site]

    def collect_delta(self, share: Share, delta: Tensor, index: Tensor | None = None) -> None:
        """Record a contribution [R, T, D] (or [n, D] at flat token `index`) for the local neutrality loss.

        A recomputation under gradient checkpointing computes the same value, so that saved tensors match, and
        records nothing twice.
        """
        if self.collector is None:
            return
        value = self.collector.mean(delta.abs().mean(-1), share.rows, index)
        if not self.recomputing:
            self.collector.deltas.setdefault(share.name, []).append(value)

    def collect_gate(self, share: Share, score: Tensor) -> None:
        """Record what the gate penalty asks of a gate's score [R, T, 1]: two hinges, shut [0] and open [1]."""
        if self.collector is not None:
            self._collect_pair(self.collector, share, torch.relu(1.0 + score), torch.relu(1.0 - score))

    def collect_classified(self, share: Share, score: Tensor) -> None:
        """Record what the gate penalty asks of an adapter's score [R, T]: two parts of a cross-entropy, as of a gate."""
        if self.collector is not None:
            self._collect_pair(self.collector, share, F.softplus(score.float()), F.softplus(-score.float()))

    def _collect_pair(self, collector: Collector, share: Share, shut: Tensor, opened: Tensor) -> None:
        value = torch.stack([collector.mean(shut, share.rows), collector.subject_mean(opened, share.rows)])
        if not self.recomputing:
            collector.gates.setdefault(share.name, []).append(value)

    def observe(self, share: Share, site: str, **facts: Any) -> None:
        """Tell an observer (inspection, the 'was it on?' check) what happened at a site."""
        if self.observer is not None and not self.recomputing:
            self.observer(share, site, **facts)


T = TypeVar("T")


def _on(value: T, device: torch.device) -> T:
    return cast("T", value.to(device)) if isinstance(value, Tensor) else value


class _Runtime(threading.local):
    """Thread-local: the call in progress, what watches it, and the capture list of attention keys and values."""

    call: Call | None = None
    # True while the base reads for its modules: every forward is then bare, whatever is selected
    bare: bool = False
    watch: Watch = Watch()
    # the number of prompts that `generate` was given, while it runs, and where the last turn of each begins
    prompts: int | None = None
    last_turns: Tensor | None = None
    capture: list[KeyValues] | None = None
    # the text memories that what `generate` was given begins with
    recalled: frozenset[str] = frozenset()
    # the norm that hands its input on as it is, while registers without the input norm run through its layer
    passing: Any = None

    def __init__(self) -> None:
        self.call = None
        self.bare = False
        self.watch = Watch()
        self.prompts = None
        self.last_turns = None
        self.recalled = frozenset()
        self.capture = None
        self.passing = None


RUNTIME = _Runtime()


def mark_recalled(ids: Tensor, names: frozenset[str]) -> Tensor:
    """The ids, marked as what begins with what text memories of these names recall; a copy of them is not."""
    if names:
        ids.addenda_recalled = names  # type: ignore[attr-defined]
    return ids


def recalled_in(ids: Any) -> frozenset[str]:
    """The text memories that ids are marked with."""
    return getattr(ids, "addenda_recalled", frozenset())


class running:
    """Run a block under a call, or under none and then bare, and put back what was there."""

    def __init__(self, call: Call | None, recomputing: bool = False) -> None:
        self.call, self.recomputing = call, recomputing

    def __enter__(self) -> Call | None:
        self.before = RUNTIME.call, RUNTIME.bare
        self.flag = self.call.recomputing if self.call is not None else False
        RUNTIME.call, RUNTIME.bare = self.call, self.call is None
        if self.call is not None:
            self.call.recomputing = self.recomputing
        return self.call

    def __exit__(self, *exc: object) -> None:
        if self.call is not None:
            self.call.recomputing = self.flag
        RUNTIME.call, RUNTIME.bare = self.before
