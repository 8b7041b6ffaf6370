"""Retrieval: passages of a text, found by BM25, to be read in the window instead of being written into a module."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError, DataError
from addenda.text.encoding import Encoder
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of a passage
PASSAGE = 128


class Passages:
    """An index of the passages of a source, as it was when it was made.

    Raises:
        AddendaError: bm25s is not installed.
        DataError: the source cannot be read, or holds no words.
    """

    def __init__(self, base: Base, source: Any, *, tokens: int = PASSAGE) -> None:
        try:
            import bm25s
        except ImportError:
            raise AddendaError("retrieval needs bm25s: pip install bm25s") from None
        kept = [(passage, words) for passage in _cut(base, source, tokens) if (words := words_of(passage))]
        if not kept:
            raise DataError("there is no passage to retrieve: the text is empty, or holds no words that count")
        self.passages = [passage for passage, _ in kept]
        self._index = bm25s.BM25()
        self._index.index([words for _, words in kept], show_progress=False)

    def search(self, query: str, count: int = 1) -> list[str]:
        """The passages that match a query best, best first; fewer where fewer share a word with it."""
        asked = [word for word in words_of(query) if word in self._index.vocab_dict]
        if not asked:  # no word of it counts
            return []
        count = min(count, len(self.passages))
        places, scores = self._index.retrieve([asked], k=count, show_progress=False)
        return [self.passages[int(at)] for at, score in zip(places[0], scores[0], strict=True) if score > 0]


#: scripts that put no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana and Han; and Hangul, whose words
#: carry their particles with them
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


def unspaced(letter: str) -> bool:
    """Whether a character is of a script that puts no spaces between words."""
    return bool(_UNSPACED.match(letter))


@cache
def _sort(letter: str) -> str:
    """What a character is to the index: part of a "word", of a text "unspaced", or "" between words."""
    if unicodedata.category(letter)[0] not in "LNM" and letter != "_":
        return ""
    return "unspaced" if unspaced(letter) else "word"


def words_of(text: str) -> list[str]:
    """The words of a text by which it is found: of two letters and more, and no stop words of English.

    Where a script puts no spaces between words, every two letters that stand together are one, as is usual for Chinese,
    Japanese and Thai without a dictionary; a letter alone is one too.

    Source: Nie, Gao, Zhang and Zhou 2000, "On the use of words and n-grams for Chinese information retrieval".
    """
    from bm25s.stopwords import STOPWORDS_EN

    words: list[str] = []
    for sort, letters in groupby(unicodedata.normalize("NFKC", text).lower(), _sort):
        run = "".join(letters)
        if sort == "unspaced":
            words += [run[at : at + 2] for at in range(max(1, len(run) - 1))]
        elif sort and len(run) > 1 and run not in STOPWORDS_EN:
            words.append(run)
    return words


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
