"""The gates that a module may stand behind, by name."""

from __future__ import annotations

from addenda.core.context_gate import ContextGate
from addenda.core.document_gate import DocumentGate
from addenda.core.errors import AddendaError
from addenda.core.gate import Gate
from addenda.core.site import Anatomy, Seam, Site

GATES: dict[str, type[Gate]] = {"context": ContextGate, "document": DocumentGate}


def gate_site(anatomy: Anatomy, seam: Seam, read_at: int | None = None) -> Site:
    """The site of a seam where a gate reads: at layer `read_at`, by default a third of the way up.

    Raises:
        AddendaError: there is no such layer.
    """
    layer = anatomy.layers // 3 if read_at is None else read_at
    if not 0 <= layer < anatomy.layers:
        raise AddendaError(f"read_at is a layer from 0 to {anatomy.layers - 1}; got {layer}")
    return next(site for site in anatomy.at(seam) if site.layer == layer)
