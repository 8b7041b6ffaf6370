"""Selections: which modules act, with which weights, on which row of a batch; and the one parser of their names."""

from __future__ import annotations

import reprlib
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from addenda.core.call import Share
from addenda.core.errors import SelectionError
from addenda.core.module import KnowledgeModule, plugged
from addenda.core.state import rows_on

Weights = Mapping[str, float]
Names = str | Iterable[str] | Weights
#: a whole number may be larger than any float
_LARGEST = sys.float_info.max


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
        SelectionError: it is neither of these, a weight is not a finite number, or a name stands twice.
    """
    merged: dict[str, float] = {}
    for part in (*names, named):
        for name, weight in _pairs(part).items():
            if name in merged:
                raise SelectionError(f"module '{name}' is selected twice")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not -_LARGEST <= weight <= _LARGEST:
                got = "one too large" if isinstance(weight, int) and abs(weight) > _LARGEST else repr(weight)
                raise SelectionError(f"the weight of '{name}' must be a finite number; got {got}")
            merged[name] = float(weight)
    return merged


def _pairs(part: Names) -> Mapping[str, float]:
    if isinstance(part, str):
        return parse(part)
    said = list(part) if isinstance(part, Iterable) and not isinstance(part, Tensor) else None
    if said is None or not all(isinstance(name, str) for name in said):
        raise SelectionError(
            "a selection is a name, some names, or a mapping of names to weights, and nothing is {}: "
            f"'pubmed', ['pubmed', 'law'], {{'pubmed': 1.0}}; got {reprlib.repr(part)}"
        )
    return part if isinstance(part, Mapping) else dict.fromkeys(said, 1.0)


@dataclass(frozen=True, eq=False)
class Selection:
    """Either one mapping for all rows, or one per prompt, or a table of mappings with an index tensor [B] into it.

    Weights of zero are dropped where they are known as numbers, so that zero is off; `said` keeps every name.
    """

    everyone: dict[str, float] = field(default_factory=dict)
    rows: tuple[dict[str, float], ...] | None = None
    index: Tensor | None = None
    table: tuple[tuple[str, Tensor], ...] = ()
    entries: int = 0
    said: frozenset[str] = frozenset()
    #: of each module of a table its least weight, as a number: the table is on the index's device
    least: dict[str, float] = field(default_factory=dict)
    #: the modules of each of a table's entries
    entered: tuple[frozenset[str], ...] = ()

    #: True where nothing is selected and no rows are to be counted; a plain field, because compiled code guards on it
    empty: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "empty", not self.everyone and self.rows is None and self.index is None)

    def names(self) -> set[str]:
        """Every module that some row selects."""
        if self.index is not None:
            return {name for name, _ in self.table}
        return set(self.everyone) if self.rows is None else {name for row in self.rows for name in row}

    def together(self) -> Iterable[Iterable[str]]:
        """The modules that some row selects together."""
        return self.entered if self.index is not None else (self.everyone,) if self.rows is None else self.rows

    def of_prompt(self, number: int, count: int) -> dict[str, float]:
        """What the prompt of that number selects, of so many.

        Raises:
            SelectionError: there are not as many rows.
        """
        if self.index is not None:
            _times(len(self.index), count, None)
            at = int(self.index[number])
            weights = {name: float(of_entries[at]) for name, of_entries in self.table}
            return _nonzero(weights)
        if self.rows is None:
            return self.everyone
        _times(len(self.rows), count, None)
        return self.rows[number]

    def without(self, name: str) -> Selection:
        """The same selection without one module."""
        keep = {n: w for n, w in self.everyone.items() if n != name}
        rows = None if self.rows is None else tuple({n: w for n, w in row.items() if n != name} for row in self.rows)
        table = tuple((n, w) for n, w in self.table if n != name)
        return Selection(keep, rows, self.index, table, self.entries, self.said - {name}, self.least, self.entered)

    def shares(
        self, modules: Mapping[str, KnowledgeModule], batch: int, prompts: int | None, device: torch.device
    ) -> list[Share]:
        """Each selected module's part in a batch of `batch` rows on a device, in name order.

        `prompts` is the number of prompts that `generate` was given, None outside of it; only inside it may the
        batch be a multiple, each entry then standing for its prompt's rows in place.

        Raises:
            SelectionError: the number of rows does not fit, or a module is no longer plugged.
        """
        for name in self.names():
            if name not in modules:
                raise SelectionError(f"module '{name}' is selected, and was unplugged in the meantime")
        if self.index is not None:
            return self._by_index(modules, self.index.to(device), batch, prompts)
        if self.rows is None:
            return [Share(name, modules[name], None, self.everyone[name]) for name in sorted(self.everyone)]
        times = _times(len(self.rows), batch, prompts)
        rows = [row for row in self.rows for _ in range(times)]
        shares = []
        for name in sorted(self.names()):
            by_row = {number: row[name] for number, row in enumerate(rows) if name in row}
            values = list(by_row.values())
            weight: float | Tensor = values[0]
            if any(value != weight for value in values):
                weight = torch.tensor(values, dtype=torch.float32, device="cpu")
                weight = weight.to(device, non_blocking=True).view(-1, 1, 1)
            shares.append(Share(name, modules[name], rows_on(list(by_row), device), weight, by_row))
        return shares

    def _by_index(
        self, modules: Mapping[str, KnowledgeModule], index: Tensor, batch: int, prompts: int | None
    ) -> list[Share]:
        times = _times(len(index), batch, prompts)
        if times > 1:
            index = index.repeat_interleave(times)
        return [
            Share(name, modules[name], None, weights.to(index.device, non_blocking=True)[index].view(-1, 1, 1))
            for name, weights in self.table
        ]


def for_all(*names: Names, **named: float) -> Selection:
    """One selection for all rows, from what `weights_of` takes."""
    weights = weights_of(*names, **named)
    return Selection(_nonzero(weights), said=frozenset(weights))


def by_rows(rows: Sequence[Names]) -> Selection:
    """A selection for each prompt of the batch; a homogeneous one becomes a selection for all rows where it can.

    Raises:
        SelectionError: there are no rows, or a row is not a selection.
    """
    if isinstance(rows, Tensor):
        raise SelectionError(
            "rows takes an index together with the table that it points into: rows(index, table=[...])"
        )
    if isinstance(rows, str | Mapping) or not isinstance(rows, Sequence) or not rows:
        raise SelectionError(
            f"rows takes a list with one selection per prompt, e.g. [{{'pubmed': 1.0}}, {{}}]; got {reprlib.repr(rows)}"
        )
    weights = [weights_of(row) for row in rows]
    return Selection(rows=tuple(map(_nonzero, weights)), said=frozenset().union(*weights))


def by_index(index: Tensor, table: Sequence[Names]) -> Selection:
    """A selection by index into a table: a new index of the same length never recompiles.

    Raises:
        SelectionError: index is not a LongTensor [B], or points outside of the table, or a row is not a selection.
    """
    if isinstance(table, str | Mapping) or not isinstance(table, Sequence):
        raise SelectionError(
            f"the table is a list of selections, e.g. [{{}}, {{'pubmed': 1.0}}]; got {reprlib.repr(table)}"
        )
    if not isinstance(index, Tensor) or index.dtype != torch.long or index.dim() != 1:
        raise SelectionError("with a table, rows takes a LongTensor [B] that points into it")
    if index.numel() == 0 or not 0 <= int(index.min()) <= int(index.max()) < len(table):
        raise SelectionError(f"the index must have at least one entry and point into the table's {len(table)} entries")
    entries = [weights_of(entry) for entry in table]
    names = sorted({name for entry in entries for name in _nonzero(entry)})
    columns = tuple(
        (name, torch.tensor([entry.get(name, 0.0) for entry in entries], dtype=torch.float32, device=index.device))
        for name in names
    )
    least = {name: min(entry.get(name, 0.0) for entry in entries) for name in names}
    entered = tuple(frozenset(_nonzero(entry)) for entry in entries)
    said = frozenset().union(*entries)
    return Selection(index=index, table=columns, entries=len(table), said=said, least=least, entered=entered)


def _nonzero(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if weight != 0.0}


def check(selection: Selection, modules: Mapping[str, KnowledgeModule]) -> Selection:
    """Return the selection if every module in it, at whatever weight, is plugged and may have its weight.

    Raises:
        SelectionError: otherwise; an unknown name never falls back to the base in silence.
    """
    names = selection.names()
    for name in sorted(names | selection.said):
        why = plugged(modules, name).kind.least_weight
        if name in names and why is not None and _least(selection, name) < 0:
            raise SelectionError(f"'{name}' {why}: it must not be negative")
    if any(modules[name].around for name in names):
        for row in selection.together():
            _check_around([modules[name] for name in sorted(row) if name in modules])
    return selection


def _check_around(chosen: list[KnowledgeModule]) -> None:
    """Refuse modules of one row that stand around the same site."""
    for number, one in enumerate(chosen):
        for other in chosen[:number]:
            if both := one.around & other.around:
                raise SelectionError(
                    f"'{other.name}' and '{one.name}' both stand around {min(both)}, where one may stand; "
                    "select one of them for each prompt"
                )


def _least(selection: Selection, name: str) -> float:
    if selection.index is not None:
        return selection.least[name]
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


class Current(ModuleType):
    """The selection of whoever runs, in a form that compiled code reads.

    Dynamo cannot trace a context variable, and a copy of it elsewhere (in a thread-local, say) is another context's as
    soon as a context is copied to a thread. What a module object computes as an attribute it really gets, in tracing
    as in the guards before each call, which run in the caller's context.
    """

    def __init__(self, selected: ContextVar[Selection], fused: ContextVar[Any], anyones: Anyones) -> None:
        super().__init__("addenda.current")
        self._selected, self._fused, self._anyones = selected, fused, anyones

    @property
    def selection(self) -> Selection:
        """What the context variable holds."""
        return self._selected.get()

    @property
    def fusion(self) -> Any:
        """The `Fusion` at work, or None."""
        return self._fused.get()

    @property
    def astray(self) -> bool:
        """Whether who runs has chosen nothing, where somebody else has."""
        return self._selected.get() is UNCHOSEN and bool(self._anyones)


class Anyones:
    """What anyone has selected: the blocks that are open in any thread or task, and the defaults that any still has."""

    def __init__(self, modules: Mapping[str, KnowledgeModule]) -> None:
        self._modules = modules
        self._blocks: list[Selection] = []
        self._defaults: weakref.WeakSet[Selection] = weakref.WeakSet()
        self._changing = threading.Lock()

    def default(self, chosen: Selection) -> None:
        """Note a default, for as long as some context holds it."""
        if not chosen.empty:
            with self._changing:
                self._defaults.add(chosen)

    def replace(self, old: Selection, new: Selection) -> None:
        """A block is entered, in place of what was selected there, or left."""
        with self._changing:
            if old in self._blocks:
                self._blocks.remove(old)
            if not new.empty and new not in self._defaults:
                self._blocks.append(new)

    def __bool__(self) -> bool:
        """Whether any of them selects a module that is plugged."""
        with self._changing:
            every = [*self._blocks, *self._defaults]
        return any(name in self._modules for chosen in every for name in chosen.names())


#: the empty selection: the bare base
NOTHING = Selection()
#: what is selected where nothing was ever chosen; empty too
UNCHOSEN = Selection()


def astray() -> SelectionError:
    """The error of a thread or task that would run the bare base where it may not be meant."""
    return SelectionError(
        "nothing was chosen in this thread or task, and somewhere else modules are selected; selections stay in the thread "
        "that set them. Choose here: `with base.using(...):`, or `with base.off():` for the bare base. To take a "
        "selection along, start the thread inside its block with target=contextvars.copy_context().run and "
        "args=(model.generate,)"
    )
