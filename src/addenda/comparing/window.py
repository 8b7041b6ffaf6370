"""Text in the window in place of modules: what retrieval and a long context put ahead of a text, as token ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.encoding import Encoder
from addenda.measuring.retrieval import PASSAGE, Passages
from addenda.texts import texts

if TYPE_CHECKING:
    from addenda.plugging import Base

#: tokens before a window that it is retrieved for
QUERY = 64
Ahead = Callable[[np.ndarray], np.ndarray]


def retrieved(base: Base, corpus: Any, count: int) -> Ahead:
    """The passages that match the text before a window best; none for the beginning of a document.

    As in In-Context RALM (Ram et al. 2023): what is to be predicted is never part of the query.

    Raises:
        AddendaError: bm25s is not installed.
        DataError: the corpus holds no text.
    """
    index = Passages(base, corpus, tokens=PASSAGE)

    def ahead(before: np.ndarray) -> np.ndarray:
        if not len(before):
            return np.zeros(0, np.int32)
        query = base.tokenizer.decode(before[-QUERY:], skip_special_tokens=True)
        found = "\n\n".join(reversed(index.search(query, count)))  # the best nearest to the text
        return _ids(base, found + "\n\n") if found else np.zeros(0, np.int32)

    return ahead


def beginning(base: Base, corpus: Any, room: int) -> Ahead:
    """The first `room` tokens of the corpus, ahead of every window."""
    ids = first_ids(base, corpus, room, close=True)
    return lambda before: ids


def first_ids(base: Base, source: Any, count: int, *, close: bool = False) -> np.ndarray:
    """The first `count` token ids [n] of a source's documents one after another; with `close` each ends as in training."""
    parts, left = [np.zeros(0, np.int32)], count
    for document in Encoder(base.tokenizer, base.vocabulary, close=close).documents(texts(source)):
        parts.append(document.ids[:left])
        left -= len(parts[-1])
        if left <= 0:
            break
    return np.concatenate(parts)


def first_documents(base: Base, source: Any, tokens: int) -> list[str]:
    """The documents in which the first so many tokens of a source stand; the last is cut where they end."""
    parts, left = [], tokens
    for document in Encoder(base.tokenizer, base.vocabulary).documents(texts(source)):
        parts.append(base.tokenizer.decode(document.ids[:left], skip_special_tokens=True))
        left -= len(document.ids)
        if left <= 0:
            break
    return parts


def _ids(base: Base, text: str) -> np.ndarray:
    return np.array(base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], np.int32)
