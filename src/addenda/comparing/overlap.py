"""Overlap: held-out text that stands in the corpus too, found by runs of 13 tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.encoding import Encoder
from addenda.texts import texts
from addenda.tiny.corpus import RunHasher, contains

if TYPE_CHECKING:
    from addenda.plugging import Base

#: held-out text of which less is shared is taken for coincidence: set phrases, references
SHARE = 0.01
_HASHER = RunHasher()


def runs(ids: np.ndarray) -> np.ndarray:
    """A hash [n - 12] of each run of 13 token ids [n]."""
    return _HASHER.runs(ids.astype(np.uint64))


def shared(base: Base, corpus: Any, held: Any) -> float:
    """The share of the held-out text's runs of 13 tokens, in the base's tokenizer, that the corpus has as well."""
    wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *_documents(base, held)]))
    seen = np.zeros(len(wanted), bool)
    for found in _documents(base, corpus) if len(wanted) else ():
        known = found[contains(wanted, found)]
        seen[np.searchsorted(wanted, known)] = True
    return float(seen.mean()) if len(wanted) else 0.0


def _documents(base: Base, source: Any) -> Iterator[np.ndarray]:
    for document in Encoder(base.tokenizer, base.vocabulary).documents(texts(source)):
        yield runs(document.ids)
