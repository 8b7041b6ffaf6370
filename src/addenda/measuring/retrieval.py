"""Retrieval: passages of a text, found by BM25, to be read in the window instead of being written into a module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError, DataError
from addenda.encoding import Encoder
from addenda.texts import texts

if TYPE_CHECKING:
    from addenda.plugging import Base

#: tokens of a passage
PASSAGE = 128


class Passages:
    """An index of the passages of a source, as it was when it was made.

    Raises:
        AddendaError: bm25s is not installed.
        DataError: the source cannot be read, or holds no text.
    """

    def __init__(self, base: Base, source: Any, *, tokens: int = PASSAGE) -> None:
        try:
            import bm25s
        except ImportError:
            raise AddendaError('retrieval needs bm25s: pip install "addenda[eval]"') from None
        self.passages = list(_cut(base, source, tokens))
        if not self.passages:
            raise DataError("there is no passage to retrieve: the text is empty")
        self._tokens: Any = bm25s.tokenize
        self._index = bm25s.BM25()
        self._index.index(self._tokens(self.passages, stopwords="en", show_progress=False), show_progress=False)

    def search(self, query: str, count: int = 1) -> list[str]:
        """The passages that match a query best, best first; fewer where fewer share a word with it."""
        count = min(count, len(self.passages))
        asked = self._tokens([query], stopwords="en", show_progress=False)
        if not asked.vocab:  # no word of it counts
            return []
        found, scores = self._index.retrieve(asked, k=count, show_progress=False)
        return [self.passages[int(at)] for at, score in zip(found[0], scores[0], strict=True) if score > 0]


def with_passages(passages: Sequence[str], prompt: str) -> str:
    """A prompt after the passages it may be answered from."""
    return "\n\n".join([*passages, prompt])


def _cut(base: Base, source: Any, tokens: int) -> Iterator[str]:
    """Documents as passages of at most so many tokens."""
    encoder = Encoder(base.tokenizer, base.vocabulary)
    for document in encoder.documents(texts(source)):
        for start in range(0, len(document.ids), tokens):
            text = base.tokenizer.decode(document.ids[start : start + tokens], skip_special_tokens=True).strip()
            if text:
                yield text
