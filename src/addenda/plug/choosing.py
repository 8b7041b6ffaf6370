"""Choosing: which of a base's plugged modules act, by default, for a block of code, for each row of a batch."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from torch import Tensor

from addenda.bases.fusing import Fusion
from addenda.bases.host import Host
from addenda.bases.reading import BaseReader
from addenda.core.modes import compiling
from addenda.core.module import KnowledgeModule, Plugged
from addenda.plug import selection as selecting
from addenda.plug.machinery import Machinery
from addenda.plug.selection import NOTHING, UNCHOSEN, Anyones, Current, Names, Selection

#: an open block: itself, and what was selected and fused before it
Block = tuple[object, Selection, Fusion | None]


class Choosing:
    """The part of a base that holds its modules and what is selected of them, in each thread or task."""

    host: Host
    reader: BaseReader
    tokenizer: Any

    def __init__(self) -> None:
        self._modules: dict[str, KnowledgeModule] = {}
        #: read-only view of the plugged modules by name
        self.modules: Mapping[str, KnowledgeModule] = Plugged(self._modules)
        self._machinery = Machinery(self)
        self._selected: contextvars.ContextVar[Selection] = contextvars.ContextVar("selection", default=UNCHOSEN)
        #: the blocks that are open here, in the order in which they were entered
        self._blocks: contextvars.ContextVar[tuple[Block, ...]] = contextvars.ContextVar("blocks", default=())
        self._fused: contextvars.ContextVar[Fusion | None] = contextvars.ContextVar("fused", default=None)
        self._anyones = Anyones(self._modules)
        self._current = Current(self._selected, self._fused, self._anyones)

    def use(self, *names: Names, **weights: float) -> None:
        """Set the default selection for all rows, in this thread or task: `use("pubmed", law=0.5)`; `use()` is none."""
        chosen = self._checked(selecting.for_all(*names, **weights))
        self._anyones.default(chosen)
        self._select(chosen)
        self._fused.set(None)

    def using(self, *names: Names, **weights: float) -> Any:
        """Select for a block, in place of the default and never on top of it; nests."""
        return self._block(self._checked(selecting.for_all(*names, **weights)))

    def off(self) -> Any:
        """The bare base for a block, bit for bit."""
        return self._block(NOTHING)

    def rows(self, rows: Sequence[Names] | Tensor, table: Sequence[Names] | None = None) -> Any:
        """A selection for each prompt of the batch, for a block: a list of selections, or an index [B] into a table.

        Raises:
            SelectionError: a name is not plugged, or the index does not fit the table. A number of rows that does not
                fit the batch is found when the model runs.
        """
        chosen = selecting.by_rows(rows) if table is None else selecting.by_index(rows, table)  # type: ignore[arg-type]
        return self._block(self._checked(chosen))

    @contextmanager
    def fused(self, *names: Names, **weights: float) -> Iterator[Self]:
        """Select for a block, folded into copies of the matrices that are touched: as fast as the bare base, for all rows.

        For inference, with modules that fold (those that `addenda.merge` takes). Copies take as much memory as what is touched:
        the FFNs for a Locas memory, all linear layers for a LoRA. Logits are those of `using`, but for rounding.

        Raises:
            SelectionError: a name is not plugged.
            UnsupportedError: a module has a gate or adds keys and values, or the base is quantised.
        """
        chosen = self._checked(selecting.for_all(*names, **weights))
        fusion = Fusion(self.host, self._modules, chosen.everyone) if not chosen.empty else None
        if fusion is not None:
            self._machinery.fuse(fusion)
        try:
            with self._block(chosen, fusion):
                yield self
        finally:
            del fusion  # a context copied inside the block may hold it on, and goes on computing what it did
            self._machinery.refit()

    @property
    def selection(self) -> Selection:
        """What is selected in this thread or task."""
        return self._current.selection if compiling() else self._selected.get()

    @property
    def fusion(self) -> Fusion | None:
        """What is fused in this thread or task: a `Fusion`, or None."""
        return self._current.fusion if compiling() else self._fused.get()

    @property
    def astray(self) -> bool:
        """Whether nothing was ever chosen in this thread or task, while modules are selected in another."""
        return self._current.astray

    def _checked(self, chosen: Selection) -> Selection:
        return selecting.check(chosen, self._modules)

    def _select(self, chosen: Selection) -> None:
        self._selected.set(chosen)
        self._machinery.selected(chosen)

    @contextmanager
    def _block(self, chosen: Selection, fusion: Fusion | None = None) -> Iterator[Self]:
        before, fused, me = self._selected.get(), self._fused.get(), object()
        self._select(self._checked(chosen))  # once more: a block may be entered long after it was made
        self._blocks.set((*self._blocks.get(), (me, before, fused)))
        self._fused.set(fusion)
        self._anyones.replace(before, chosen)
        try:
            yield self
        finally:
            before = self._left((me, before, fused), chosen)
            del chosen  # neither it nor what was unplugged of `before` is alive any more, as far as this block goes
            if before is not None:
                self._select(before)

    def _left(self, block: Block, chosen: Selection) -> Selection | None:
        """Take a block off those that are open here; what is selected now, or None where a later block still is open.

        Generators that hold blocks may end in any order: the block after this one then leads back to what was before this.
        """
        _, before, fused = block
        blocks = self._blocks.get()
        at = next((n for n, (me, *_) in enumerate(blocks) if me is block[0]), None)
        if at is not None:  # else it is left in another context than it was entered in
            _, before, fused = blocks[at]
            rest = blocks[at + 1 :]
            linked = ((rest[0][0], before, fused), *rest[1:]) if rest else ()
            self._blocks.set((*blocks[:at], *linked))
            if rest:
                return None
        for name in before.names() - self._modules.keys():  # unplugged inside the block
            before = before.without(name)
        self._anyones.replace(chosen, before)
        self._fused.set(fused)
        return before
