"""Activity: where a module's gate fires on a text, token by token and layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from addenda.core.call import Share
from addenda.core.contracts import GatedAdapter
from addenda.core.contribution import Contribution
from addenda.core.errors import DataError
from addenda.core.modes import evaluating
from addenda.core.site import Site

if TYPE_CHECKING:
    from addenda.plug.base import Base

Measured = Literal["gate", "change", "slots"]


@dataclass(frozen=True)
class Activity:
    """What a module did on a text.

    `values` [rows, tokens], one row for each of `labels` (a layer, or "whole module" for a context gate). `measured`
    says what they are: "gate" the gate, zero where the token is left alone; "change" the mean absolute contribution
    over the width, for kinds without a gate; "slots" for kinds whose slots share the text's softmax: nothing can be
    told apart, and values are zero.
    """

    module: str
    kind: str
    measured: Measured
    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray = field(repr=False)
    cut: int = 0

    @property
    def mean(self) -> np.ndarray:
        """Mean over rows for each token [tokens]."""
        return self.values.mean(0)

    @property
    def live(self) -> np.ndarray:
        """Share of live tokens for each row [rows]."""
        return (self.values > 0).mean(1)

    @property
    def untouched(self) -> float:
        """Share of tokens that no row touches."""
        return float((self.values == 0).all(0).mean()) if self.measured != "slots" else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "module": self.module,
            "kind": self.kind,
            "measured": self.measured,
            "tokens": list(self.tokens),
            "cut": self.cut,
            "untouched": self.untouched,
            "rows": [
                {
                    "at": label,
                    "live": float(live),
                    "mean": float(row.mean()),
                    "values": [round(float(v), 5) for v in row],
                }
                for label, live, row in zip(self.labels, self.live, self.values, strict=True)
            ],
        }


@torch.no_grad()
def activity(base: Base, name: str, text: str | Tensor) -> Activity:
    """Run a module alone, at weight 1, over a text, or token ids [T], and record its gate (else its change) at every layer.

    What is longer than the base's context is cut; `cut` says by how many tokens.

    Raises:
        SelectionError: no such module is plugged.
        DataError: the text has no token.
        AddendaError: the base has no tokenizer.
    """
    row, words, cut = _read(base, text)
    with base.using({name: 1.0}), evaluating(base.model):
        watch = _Watch(base, name)
        with base.watching(observer=watch.observe):
            base.model(input_ids=row, use_cache=False)
    module = base.modules[name]
    labels, values, measured = watch.rows(row.shape[1])
    return Activity(name, type(module.kind).__name__, measured, words, labels, values, cut)


def _read(base: Base, text: str | Tensor) -> tuple[Tensor, tuple[str, ...], int]:
    """Token ids [1, T], the piece of text behind each, and how many tokens were cut off."""
    ids = base.tokenize(text) if isinstance(text, str) else text
    if not len(ids):
        raise DataError("the text has no token")
    most = base.context or len(ids)
    if isinstance(text, str):
        words = _pieces(base.tokenizer, text, ids.tolist())
    else:
        words = [base.tokenizer.decode([token]) for token in ids.tolist()]
    return ids[None, :most].to(base.device), tuple(words[:most]), max(0, len(ids) - most)


def _pieces(tokenizer: Any, text: str, ids: list[int]) -> list[str]:
    """The text of each token; together they are the whole text where the tokenizer knows where each stands."""
    if not getattr(tokenizer, "is_fast", False):
        return [tokenizer.decode([token]) for token in ids]
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    spans = [(0, 0)] * (len(ids) - len(coded)) + coded  # what opens the text stands for none of it
    words, at = [], 0
    for start, end in spans:
        if start == end:  # a special token stands for no text
            words.append("")
            continue
        words.append(text[at:end])  # what lies between two tokens goes to the second; half a character to the first
        at = max(at, end)
    if words:
        words[-1] += text[at:]
    return words


class _Watch:
    """Gathers what each site tells of one module."""

    def __init__(self, base: Base, name: str) -> None:
        self.name = name
        self.module = base.modules[name]
        self.sites: dict[str, Site] = {site.key: site for site in base.anatomy.sites}
        self.gates: dict[str, Tensor] = {}
        self.changes: dict[str, list[Tensor]] = {}

    def observe(self, share: Share, site: str, **facts: Any) -> None:
        """Called at each site as it runs."""
        if share.name != self.name:
            return
        if isinstance(facts.get("gate"), Tensor):
            self.gates[site] = facts["gate"][0, :, 0].float().cpu()
        if "contribution" in facts:
            self.changes.setdefault(site, []).append(_change(facts["contribution"], int(facts["shape"][1])))
            adapter = self.module.adapter(site)
            gate = adapter.gate(facts["x"]) if isinstance(adapter, GatedAdapter) else None
            if gate is not None:
                self.gates[site] = gate.reshape(-1).float().cpu()

    def rows(self, length: int) -> tuple[tuple[str, ...], np.ndarray, Measured]:
        """Row labels, values [rows, T] and what they are."""
        if self.module.gate is not None and self.module.gate.site in self.gates:
            return ("whole module",), self.gates[self.module.gate.site][None].numpy(), "gate"
        per_site = self.gates or {key: torch.stack(parts).mean(0) for key, parts in self.changes.items()}
        by_layer: dict[int, list[Tensor]] = {}
        for key, value in per_site.items():
            by_layer.setdefault(self.sites[key].layer, []).append(value)
        layers = sorted({self.sites[key].layer for key in self.module.sites()})
        zero = torch.zeros(length)
        rows = [torch.stack(by_layer.get(layer, [zero])).mean(0) for layer in layers]
        measured: Measured = "gate" if self.gates else "change" if self.changes else "slots"
        return tuple(f"layer {layer}" for layer in layers), torch.stack(rows).numpy(), measured


def _change(contribution: Contribution | None, length: int) -> Tensor:
    """Mean absolute contribution over the width for each token [T] of the first row."""
    changes = torch.zeros(length)
    if contribution is None:
        return changes
    size = contribution.delta.float().abs().mean(-1).cpu()
    if contribution.index is not None:
        return changes.index_copy(0, contribution.index.cpu(), size)
    live = contribution.live
    return size[0] if live is None else torch.where(live[0, :, 0].cpu(), size[0], changes)
