"""The texts of a compression: documents to measure on, others to fit to, and what enters a module's sites on those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.call import Share
from addenda.core.errors import DataError
from addenda.core.modes import evaluating
from addenda.core.module import KnowledgeModule
from addenda.plug.scoring import default_length, encoded_documents
from addenda.telling.progress import tick
from addenda.text.encoding import Encoded, Encoder
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: bytes of sites' inputs that are held at once
ROOM = 1 << 28


@dataclass(frozen=True)
class Reading:
    """Documents to measure on and windows of token ids [T] to fit to, with what their texts are called."""

    measured: Sequence[Encoded]
    on: str
    windows: Sequence[Tensor] = ()
    fitted_on: str = ""

    @property
    def fitted(self) -> int:
        """Tokens to fit to."""
        return sum(map(len, self.windows))


def read(base: Base, text: Any, calibration: Any, wanted: int, tokens: int) -> Reading:
    """Read the texts of a compression that wants to fit to `wanted` tokens, and measures on at most `tokens`.

    Raises:
        DataError: a text cannot be read, or is too short to measure on, or to be fitted to.
    """
    encoder, source = Encoder(base.tokenizer, base.vocabulary), texts(text)
    apart = calibration is not None or not wanted
    documents = list(encoded_documents(encoder, source, tokens if apart else 2 * tokens))
    if not documents:
        raise DataError(f"'{source.name}' holds no token to measure on")
    if not wanted:
        return Reading(documents, source.name)
    other = source
    if calibration is not None:
        other = texts(calibration)
        fit, measured = list(encoded_documents(encoder, other, wanted)), documents
    elif len(documents) > 1:
        fit, measured = documents[::2], documents[1::2]
    else:
        fit, measured = _halves(documents[0])
    windows = _windows(fit, wanted, default_length(base))
    if not windows or not any(int(document.weights[1:].sum()) for document in measured):
        raise DataError(f"'{other.name}' is too short to fit to; give a longer text, or one of its own as calibration")
    return Reading(measured, source.name, windows, other.name)


def _halves(document: Encoded) -> tuple[list[Encoded], list[Encoded]]:
    at, size = len(document.ids) // 2, document.bytes // 2
    first = replace(document, ids=document.ids[:at], weights=document.weights[:at], bytes=size)
    rest = replace(document, ids=document.ids[at:], weights=document.weights[at:], bytes=document.bytes - size)
    return [first], [rest]


def _windows(documents: Sequence[Encoded], wanted: int, length: int) -> list[Tensor]:
    """Windows of at most `length` tokens until there are `wanted`."""
    found: list[Tensor] = []
    left = wanted
    for document in documents:
        for window in torch.from_numpy(document.ids.astype("int64")).split(length):
            if left > 0 and len(window) > 1:
                found.append(window[: max(2, left)])
                left -= len(found[-1])
    return found


class Inputs(Mapping[str, Tensor]):
    """What enters each site of a module, it alone at weight 1 [N, D_in], float32, on the windows to fit to.

    Read when it is asked for, for as many sites at once as fit into `ROOM` bytes, and let go when others are read. The first
    token of a window is left out: it is no word of the text to most bases, and often many times as large as any other. Sites
    that did not run are not there.
    """

    def __init__(self, base: Base, module: KnowledgeModule, reading: Reading) -> None:
        self.base, self.module, self.reading = base, module, reading
        widths = {site.key: site.d_in for site in base.anatomy.sites}
        tokens = reading.fitted - len(reading.windows)
        self.groups: list[list[str]] = []
        left = 0
        for key in module.sites() if reading.windows else ():
            size = 4 * tokens * widths[key]
            if size > left or not self.groups:
                self.groups.append([])
                left = ROOM
            self.groups[-1].append(key)
            left -= size
        self._read: list[str] = []
        self._held: dict[str, Tensor] = {}

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._read:
            self._read = next((group for group in self.groups if key in group), [])
            self._held.clear()
            self._held = self._inputs(self._read) if self._read else {}
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return (key for group in self.groups for key in group if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @torch.no_grad()
    def _inputs(self, sites: Sequence[str]) -> dict[str, Tensor]:
        seen: dict[str, list[Tensor]] = {key: [] for key in sites}

        def observe(share: Share, site: str, **facts: Any) -> None:
            if share.name == self.module.name and site in seen and "x" in facts:
                seen[site].append(facts["x"][:, 1:].flatten(0, -2).float())

        base, name = self.base, self.module.name
        with base.using({name: 1.0}), evaluating(base.model), base.watching(observer=observe):
            for window in self.reading.windows:
                base.model(input_ids=window[None].to(base.device), use_cache=False)
                tick(len(window))
        return {key: torch.cat(parts) for key, parts in seen.items() if parts}
