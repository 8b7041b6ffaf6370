"""One gate for a module that was made of several: theirs where they are one and the same, else fitted anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from addenda.core.card import DataRecord
from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writing.gate_fit import fit_gate
from addenda.writing.packing import Row, Stream

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: rows of either side that a gate is fitted to at most, and tokens of each
ROWS, LENGTH = 256, 256


class CommonGate:
    """What stands before a combined module.

    A fitted gate is a network with a threshold: the mean of two that were fitted to different subjects opens for neither.
    So equal gates are kept, and others make way for one that is fitted to the text of all subjects, and to general text.
    """

    def __init__(self, modules: Sequence[KnowledgeModule], subject: Any, replay: Any) -> None:
        self.first = modules[0]
        self.kept = all(_equal(self.first, other) for other in modules[1:])
        self.texts: tuple[Texts, Texts] | None = None
        told = " and ".join(f"'{module.name}'" for module in modules)
        if self.kept and (subject is not None or replay is not None):
            why = "stand behind no gate" if self.first.gate is None else "stand behind one and the same gate"
            raise AddendaError(f"{told} {why}: leave subject and replay out (--subject, --replay)")
        if not self.kept:
            if subject is None or replay is None:
                raise AddendaError(
                    f"{told} stand behind gates of different fits, which have no mean: give text of all their subjects and "
                    "general text, and a fresh gate is fitted: subject=, replay= (--subject, --replay)"
                )
            self.texts = texts(subject), texts(replay)

    def put_before(self, base: Base, made: KnowledgeModule) -> list[DataRecord]:
        """Give the new module its gate; returns the texts that it was fitted to."""
        if made.gate is None:
            return []
        if self.texts is None:
            assert self.first.gate is not None
            made.gate.load_state_dict(self.first.gate.state_dict())
            return []
        length = min(LENGTH, base.context or LENGTH)
        rows = [self._rows(base, source, number, length) for number, source in enumerate(self.texts)]
        fit_gate(base, made.name, rows[0], rows[1], rows=8)
        return [source.record(role) for source, role in zip(self.texts, ("corpus", "replay"), strict=True)]

    def _rows(self, base: Base, source: Texts, code: int, length: int) -> Iterator[Row]:
        encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
        return islice(Stream(source, encoder, length=length, code=code).rows(0), ROWS)


def _equal(one: KnowledgeModule, other: KnowledgeModule) -> bool:
    """Whether two modules stand behind no gate, or behind gates of the same numbers."""
    if one.gate is None or other.gate is None:
        return True
    theirs = other.gate.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.gate.state_dict().items())
