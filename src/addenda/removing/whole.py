"""Removing a module whole: unplugged, the base proved to be what it was, and its folder deleted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from addenda.core.errors import FileError
from addenda.core.module import KnowledgeModule
from addenda.measuring.asking.certificate import check_idle, logits_hash, rolled_back
from addenda.modulefile.folders import check_deletable, delete
from addenda.modulefile.storage import read_card
from addenda.removing.plan import module_of
from addenda.removing.report import WholeReport

if TYPE_CHECKING:
    from addenda.plug.base import Base


@torch.no_grad()
def remove(base: Base, name: str, folder: str | Path | None) -> WholeReport:
    """Unplug a module, look at the base without it, and delete its folder where the proof holds.

    Raises:
        AddendaError: no such module is plugged, or one is being trained.
        FileError: the folder is not this module's, or holds something else; nothing is done then.
    """
    module = module_of(base, name)
    check_idle(base)
    doomed = None if folder is None else check_deletable(folder)
    if doomed is not None:
        _check_same(module, doomed.path)
    with base.off():
        plugged = logits_hash(base)
        base.unplug(name)
        unplugged = logits_hash(base)
    proof = rolled_back(base)
    proof = {
        "how": f"unplug {name}; then {proof.pop('how')}, and plug these again",
        f"the same with '{name}' plugged, off": plugged,
        f"the same with '{name}' unplugged": unplugged,
        **proof,
    }
    holds = proof.pop("holds") and plugged == unplugged == proof["sha256 of the probe's logits"]
    deleted = delete(doomed.path) if doomed is not None and holds else None
    return WholeReport(name, holds, module.size(), proof, deleted)


def _check_same(module: KnowledgeModule, folder: Path) -> None:
    """Refuse to delete the folder of another module."""
    card, own = read_card(folder), module.card
    # a module keeps the time at which it was made through every training, saving and renaming
    if (card.kind, card.created, card.base.fingerprint) != (own.kind, own.created, own.base.fingerprint):
        raise FileError(
            f"'{folder}' is not the folder of the module that is plugged as '{module.name}', but of '{card.name}' "
            f"({card.kind}); plug that folder and forget it, or use addenda delete"
        )
