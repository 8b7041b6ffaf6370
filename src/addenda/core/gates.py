"""The gates that a module may stand behind, by name."""

from __future__ import annotations

from typing import Literal

from addenda.core.context_gate import ContextGate
from addenda.core.document_gate import DocumentGate
from addenda.core.errors import AddendaError
from addenda.core.gate import Gate
from addenda.core.site import Anatomy, Seam, Site

#: where a gate reads
ReadAt = int | Literal["early"] | None

GATES: dict[str, type[Gate]] = {"context": ContextGate, "document": DocumentGate}


#: the layer of a deep base where a gate reads "early": those below do without the module
EARLY = 3


def gate_site(anatomy: Anatomy, seam: Seam, read_at: ReadAt = None) -> Site:
    """The site of a seam where a gate reads: at a layer, "early", or (None) a third of the way up.

    "early" is layer 3, or a third of the way up where that is lower.

    Raises:
        AddendaError: there is no such layer.
    """
    third = anatomy.layers // 3
    layer = third if read_at is None else min(EARLY, third) if read_at == "early" else read_at
    if not 0 <= layer < anatomy.layers:
        raise AddendaError(f"read_at is a layer from 0 to {anatomy.layers - 1}; got {layer}")
    return next(site for site in anatomy.at(seam) if site.layer == layer)
