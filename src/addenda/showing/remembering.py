"""Remembering: what is said in a conversation, written into a memory on disk that outlives the process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from addenda.core.errors import AddendaError
from addenda.core.files import check_place
from addenda.modulefile.storage import MEMBERS
from addenda.writing.memorize import default_kind, memorize

if TYPE_CHECKING:
    from addenda.core.contracts import Kind
    from addenda.core.method import Method
    from addenda.plug.base import Base
    from addenda.remembering.text_memory import TextMemory

#: a turn is short: it is written in small chunks, and read more than once
SETTINGS: dict[str, Any] = {"chunk": 64, "passes": 3, "baseline": False, "log": False}


class Memory:
    """A memory in a folder, plugged and at work: an old one goes on, else a new one is made, of `kind` if one is given.

    Every turn is written at once and saved whole, so that what stands on disk is always the last complete turn. The
    folder is a module like any other: `addenda inspect` shows it, `--plug` plugs it, `addenda merge` folds it in.

    Raises:
        AddendaError: the folder's name is no module's name, or a memory of another kind than `kind` stands there.
        FileError: the folder holds something else, or a memory made for another base.
    """

    def __init__(self, base: Base, folder: str | Path, kind: Method | None = None, **settings: Any) -> None:
        self.base, self.folder, self.settings = base, Path(folder), SETTINGS | settings
        check_place(self.folder, MEMBERS)
        if (self.folder / "card.json").exists():
            self.name = base.plug(self.folder).name
            there = base.modules[self.name].kind
            if kind is not None and type(kind) is not type(there):
                base.unplug(self.name)
                raise AddendaError(
                    f"'{folder}' is a {type(there).__name__}, not a {type(kind).__name__}: ask for no kind to go on with it "
                    "(without --memory-kind), or give another folder"
                )
        else:
            self.name = base.new(self.folder.resolve().name, cast("Kind", kind or default_kind(base))).name
        self._select(True)

    @property
    def turns(self) -> int:
        """How many turns it has been written with, in this process and before."""
        module = self.base.modules[self.name]
        return (
            len(module.card.training) if module.memory is None else cast("TextMemory", module.kind).turns(module.memory)
        )

    def take(self, text: str) -> None:
        """Write a turn, and save the memory; nothing while it is turned off.

        An interrupted turn leaves no trace.
        """
        module = self.base.modules.get(self.name)
        if not text.strip() or module is None or self.name not in self.base.selection.everyone:
            return
        if module.memory is not None:
            held = module.memory
            try:
                self.base.remember(self.name, text)
                module.save(self.folder)
            except BaseException:
                module.memory = held
                raise
            return
        before = {key: tensor.clone() for key, tensor in module.tensors().items()}
        waits, training, measures = module.awaits_text, list(module.card.training), list(module.card.measures)
        try:
            memorize(self.base, self.name, text=[text], **self.settings)
            module.save(self.folder)
        except BaseException:
            module.load_tensors(before)
            module.awaits_text, module.card.training, module.card.measures = waits, training, measures
            raise

    def forget(self) -> None:
        """Delete the memory, on disk too, and begin an empty one."""
        kind, before = self.base.modules[self.name].kind, self.name in self.base.selection.everyone
        if self.folder.exists():
            check_place(self.folder, MEMBERS)
            shutil.rmtree(self.folder)
        self.base.unplug(self.name)
        self.base.new(self.name, kind)
        self._select(before)

    def _select(self, on: bool) -> None:
        others = {name: weight for name, weight in self.base.selection.everyone.items() if name != self.name}
        self.base.use(others | ({self.name: 1.0} if on else {}))
