"""Text in the window in place of modules: what retrieval and a long context put ahead of a text, as token ids."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.measuring.asking.retrieval import PASSAGE, Passages
from addenda.text.encoding import Encoder
from addenda.text.prompting import check_ids
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens before a window that it is retrieved for
QUERY = 64
Ahead = Callable[[np.ndarray], np.ndarray]


class Retrieved:
    """The passages that match the text before a window best; none for the beginning of a document.

    As in In-Context RALM (Ram et al. 2023): what is to be predicted is never part of the query. Of more than `room` tokens
    the last are read, which are the best passage's.

    Raises:
        AddendaError: bm25s is not installed.
        DataError: the corpus holds no text.
    """

    def __init__(self, base: Base, corpus: Any, count: int, room: int | None = None) -> None:
        self.base, self.count, self.room = base, count, room
        self.index = Passages(base, corpus, tokens=PASSAGE)

    def __call__(self, before: np.ndarray) -> np.ndarray:
        """Token ids to read ahead of a window that follows the ids `before` [n]."""
        if not len(before):
            return np.zeros(0, np.int32)
        query = self.base.tokenizer.decode(before[-QUERY:], skip_special_tokens=True)
        passages = "\n\n".join(reversed(self.index.search(query, self.count)))  # the best nearest to the text
        ids = _ids(self.base, passages + "\n\n") if passages else np.zeros(0, np.int32)
        return ids if self.room is None else ids[max(0, len(ids) - self.room) :]

    def size(self) -> int:
        """Bytes of the index with its passages, as bm25s writes them."""
        with tempfile.TemporaryDirectory() as folder:
            self.index._index.save(folder, corpus=self.index.passages, show_progress=False)
            return sum(file.stat().st_size for file in Path(folder).iterdir())


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


def first_documents(base: Base, source: Any, tokens: int, *, close: bool = False) -> list[str]:
    """The documents in which the first so many tokens of a source stand; the last is cut where they end.

    With `close` what ends each document in training counts too.
    """
    parts, left = [], tokens
    for document in Encoder(base.tokenizer, base.vocabulary, close=close).documents(texts(source)):
        parts.append(base.tokenizer.decode(document.ids[:left], skip_special_tokens=True))
        left -= len(document.ids)
        if left <= 0:
            break
    return parts


def _ids(base: Base, text: str) -> np.ndarray:
    ids = np.array(base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], np.int32)
    check_ids(ids, base.vocabulary)
    return ids
