"""Overlap: held-out text that stands in the corpus too, found by runs of 13 tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.encoding import Encoder
from addenda.texts import texts

if TYPE_CHECKING:
    from addenda.plugging import Base

RUN = 13
#: held-out text of which less is shared is taken for coincidence: set phrases, references
SHARE = 0.01
_FACTOR = np.uint64(1_000_003)


def runs(ids: np.ndarray) -> np.ndarray:
    """A hash [n - 12] of each run of 13 token ids [n]."""
    if len(ids) < RUN:
        return np.zeros(0, np.uint64)
    wide = ids.astype(np.uint64) + np.uint64(1)
    found = np.zeros(len(ids) - RUN + 1, np.uint64)
    with np.errstate(over="ignore"):
        for at in range(RUN):
            found = found * _FACTOR + wide[at : len(wide) - RUN + 1 + at]
    return found


def shared(base: Base, corpus: Any, held: Any, *, most: int | None = None) -> float:
    """The share of the held-out text's runs of 13 tokens that the corpus has as well.

    Args:
        base: whose tokenizer reads both.
        corpus: text that is trained on, read to its end, or to `most` tokens.
        held: text that is measured on.
        most: tokens of the corpus.
    """
    wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *_documents(base, held)]))
    if not len(wanted):
        return 0.0
    seen, read = np.zeros(len(wanted), bool), 0
    for found in _documents(base, corpus):
        places = np.searchsorted(wanted, found)
        places[places == len(wanted)] = 0
        seen[places[wanted[places] == found]] = True
        read += len(found)
        if most is not None and read >= most:
            break
    return float(seen.mean())


def _documents(base: Base, source: Any) -> Iterator[np.ndarray]:
    for document in Encoder(base.tokenizer, base.vocabulary).documents(texts(source)):
        yield runs(document.ids)
