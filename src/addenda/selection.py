"""Selections: which modules act, with which weights, on which row of a batch; and the one parser of their names."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from addenda.core.errors import SelectionError, known
from addenda.core.module import KnowledgeModule
from addenda.core.state import Share

Weights = Mapping[str, float]
Names = str | Iterable[str] | Weights


def parse(text: str) -> dict[str, float]:
    """`pubmed,law=0.5` (command line) or `tiny+pubmed+law@0.5` without its base (server) as a mapping of weights.

    Raises:
        SelectionError: a part has no name, a name twice, or a weight that is no number.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.replace("+", ",").split(","))):
        name, mark, weight = part.replace("@", "=").partition("=")
        name = name.strip()
        if not name or name in weights:
            raise SelectionError(
                f"'{text}' names {'nothing' if not name else f'{name!r} twice'} in '{part}'; write e.g. pubmed,law=0.5"
            )
        try:
            weights[name] = float(weight) if mark else 1.0
        except ValueError:
            raise SelectionError(f"the weight of '{name}' is a number, e.g. {name}=0.5; got '{weight}'") from None
    return weights


def weights_of(*names: Names, **named: float) -> dict[str, float]:
    """One mapping of weights from names, mappings, strings for `parse`, and keywords.

    Raises:
        SelectionError: a weight is not a finite number, or a name stands twice.
    """
    merged: dict[str, float] = {}
    for part in (*names, named):
        pairs = (
            parse(part) if isinstance(part, str) else part if isinstance(part, Mapping) else dict.fromkeys(part, 1.0)
        )
        for name, weight in pairs.items():
            if name in merged:
                raise SelectionError(f"module '{name}' is selected twice")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise SelectionError(f"the weight of '{name}' must be a finite number; got {weight!r}")
            merged[name] = float(weight)
    return merged


@dataclass(frozen=True, eq=False)
class Selection:
    """Either one mapping for all rows, or one per prompt, or a table of mappings with an index tensor [B] into it.

    Weights of zero are dropped where they are known as numbers, so that zero is off.
    """

    everyone: dict[str, float] = field(default_factory=dict)
    rows: tuple[dict[str, float], ...] | None = None
    index: Tensor | None = None
    table: tuple[tuple[str, Tensor], ...] = ()
    entries: int = 0

    #: True where no row selects anything; a plain field, because compiled code guards on it
    empty: bool = field(init=False)

    def __post_init__(self) -> None:
        chosen = self.table if self.index is not None else self.everyone if self.rows is None else any(self.rows)
        object.__setattr__(self, "empty", not chosen)

    def names(self) -> set[str]:
        """Every module that some row selects."""
        if self.index is not None:
            return {name for name, _ in self.table}
        return set(self.everyone) if self.rows is None else {name for row in self.rows for name in row}

    def without(self, name: str) -> Selection:
        """The same selection without one module."""
        keep = {n: w for n, w in self.everyone.items() if n != name}
        rows = None if self.rows is None else tuple({n: w for n, w in row.items() if n != name} for row in self.rows)
        table = tuple((n, w) for n, w in self.table if n != name)
        return Selection(keep, rows, self.index, table, self.entries)

    def shares(self, modules: Mapping[str, KnowledgeModule], batch: int, prompts: int | None) -> list[Share]:
        """Each selected module's part in a batch of `batch` rows, in name order.

        `prompts` is the number of prompts that `generate` was given, None outside of it; only inside it may the
        batch be a multiple, each entry then standing for its prompt's rows in place.

        Raises:
            SelectionError: the number of rows does not fit, or a module is no longer plugged.
        """
        for name in self.names():
            if name not in modules:
                raise SelectionError(f"module '{name}' is selected, and was unplugged in the meantime")
        if self.index is not None:
            return self._by_index(modules, self.index, batch, prompts)
        if self.rows is None:
            return [Share(name, modules[name], None, self.everyone[name]) for name in sorted(self.everyone)]
        times = _times(len(self.rows), batch, prompts)
        rows = [row for row in self.rows for _ in range(times)]
        shares = []
        for name in sorted(self.names()):
            by_row = {number: row[name] for number, row in enumerate(rows) if name in row}
            device = next(modules[name].parameters()).device
            values = list(by_row.values())
            weight: float | Tensor = values[0]
            if any(value != weight for value in values):
                weight = torch.tensor(values, device=device).view(-1, 1, 1)
            shares.append(Share(name, modules[name], torch.tensor(list(by_row), device=device), weight, by_row))
        return shares

    def _by_index(
        self, modules: Mapping[str, KnowledgeModule], index: Tensor, batch: int, prompts: int | None
    ) -> list[Share]:
        times = _times(len(index), batch, prompts)
        if times > 1:
            index = index.repeat_interleave(times)
        return [Share(name, modules[name], None, weights[index].view(-1, 1, 1)) for name, weights in self.table]


def by_rows(rows: Sequence[Names]) -> Selection:
    """A selection for each prompt of the batch; a homogeneous one becomes a selection for all rows where it can.

    Raises:
        SelectionError: there are no rows, or a row is not a selection.
    """
    if isinstance(rows, str | Mapping) or not len(rows):
        raise SelectionError("rows takes a list with one selection per prompt, e.g. [{'pubmed': 1.0}, {}]")
    return Selection(rows=tuple({n: w for n, w in weights_of(row).items() if w != 0.0} for row in rows))


def by_index(index: Tensor, table: Sequence[Names]) -> Selection:
    """A selection by index into a table: a new index of the same length never recompiles.

    Raises:
        SelectionError: index is not a LongTensor [B], or points outside of the table.
    """
    if not isinstance(index, Tensor) or index.dtype != torch.long or index.dim() != 1:
        raise SelectionError("with a table, rows takes a LongTensor [B] that points into it")
    if index.numel() == 0 or not 0 <= int(index.min()) <= int(index.max()) < len(table):
        raise SelectionError(f"the index must have at least one entry and point into the table's {len(table)} entries")
    entries = [weights_of(entry) for entry in table]
    names = sorted({name for entry in entries for name, weight in entry.items() if weight != 0.0})
    columns = tuple(
        (name, torch.tensor([entry.get(name, 0.0) for entry in entries], device=index.device)) for name in names
    )
    return Selection(index=index, table=columns, entries=len(table))


def check(selection: Selection, modules: Mapping[str, KnowledgeModule]) -> Selection:
    """Return the selection if every module in it is plugged and may have its weight.

    Raises:
        SelectionError: otherwise; an unknown name never falls back to the base in silence.
    """
    for name in sorted(selection.names()):
        if name not in modules:
            raise SelectionError(f"no module '{name}' is plugged; plugged are {known(name, modules)}")
        if modules[name].kind.shared_softmax and _least(selection, name) < 0:
            raise SelectionError(
                f"'{name}' shares the tokens' softmax, where a weight w adds log w to its scores: it must not be negative"
            )
    return selection


def _least(selection: Selection, name: str) -> float:
    if selection.index is not None:
        return float(dict(selection.table)[name].min())
    rows = selection.rows if selection.rows is not None else (selection.everyone,)
    return min(row[name] for row in rows if name in row)


def _times(entries: int, batch: int, prompts: int | None) -> int:
    expected = batch if prompts is None else prompts
    if entries != expected or batch % entries:
        inside = "" if prompts is None else f" ({prompts} prompts in generate)"
        raise SelectionError(
            f"the selection has {entries} rows, the batch {batch}{inside}; give one entry for each prompt"
        )
    return batch // entries


class Mirror(threading.local):
    """A base's selection in this thread, for compiled code, which cannot read context variables."""

    selection: Selection
    # True for good once a selection was made inside an asyncio task: the mirror can then not be trusted
    tasks: bool

    def __init__(self) -> None:
        self.selection = Selection()
        self.tasks = False


#: the empty selection: the bare base
NOTHING = Selection()
