"""What is known of all chunks together, worked out once: each document's language, names, and how often a term is told of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from addenda.exercises import words
from addenda.exercises.exercise import Chunk
from addenda.exercises.reading import language, read

#: sentences of rules
_RULES = re.compile(
    r"\b(?:must|shall|may not|has to|have to|(?:is|are) (?:not )?(?:required|allowed|permitted)|fees?|deposit|members?|staff)\b"
)
_HELD = 4
_known: list[Known] = []


class Known:
    """All chunks of a study; `kept` is for what is made of one chunk with them, by the chunk's place and the maker."""

    def __init__(self, chunks: tuple[Chunk, ...]) -> None:
        self.chunks = chunks
        self.kept: dict[Any, Any] = {}
        self._often: dict[frozenset[str], int] = {}

    @cached_property
    def middles(self) -> frozenset[str]:
        """Words as they are written within sentences, where a capital means a name."""
        said = (sentence.text for chunk in self.chunks for sentence in read(chunk).sentences)
        return frozenset(word for text in said for word in words.words(text)[1:])

    @cached_property
    def stems(self) -> frozenset[str]:
        """Every word of all documents and headings, without its ending."""
        return frozenset(map(words.stem, {word for chunk in self.chunks for word in words.words(chunk.read)}))

    @cached_property
    def _sentences(self) -> list[frozenset[str]]:
        return [frozenset(words.content(one.text)) for chunk in self.chunks for one in read(chunk).sentences]

    @cached_property
    def _languages(self) -> dict[str, str]:
        counts: dict[str, Counter[str]] = {}
        for chunk in self.chunks:
            counts.setdefault(chunk.document, Counter())[language(chunk.text)] += len(chunk.text)
        return {
            document: (count - Counter({"": count[""]})).most_common(1)[0][0] if set(count) != {""} else ""
            for document, count in counts.items()
        }

    @cached_property
    def _ruling(self) -> frozenset[str]:
        found: dict[str, list[int]] = {}
        for chunk in self.chunks:
            said = [one.text.lower() for one in read(chunk).sentences]
            rules = sum(bool(_RULES.search(text)) for text in said)
            found.setdefault(chunk.document, [0, 0])
            found[chunk.document][0] += rules
            found[chunk.document][1] += len(said)
        return frozenset(document for document, (rules, said) in found.items() if rules >= 0.08 * said)

    def rules(self, chunk: Chunk) -> bool:
        """Whether a chunk's document gives rules, as a handbook, a contract or a statute, and does not only describe."""
        return chunk.document in self._ruling

    def language(self, chunk: Chunk) -> str:
        """A chunk's language; where its words do not tell, as those of a table, its document's."""
        return language(chunk.text) or self._languages.get(chunk.document, "") or language(chunk.read)

    def told(self, text: str) -> bool:
        """Whether any word of a text stands anywhere in the documents."""
        return any(words.stem(word) in self.stems for word in words.content(text))

    def often(self, term: str) -> int:
        """How many sentences have all words of a term."""
        wanted = frozenset(words.content(term))
        if wanted not in self._often:
            self._often[wanted] = sum(wanted <= sentence for sentence in self._sentences)
        return self._often[wanted]


def known(chunk: Chunk, others: Sequence[Chunk]) -> Known:
    """What is known of these chunks; that of the last few studies is remembered."""
    chunks = tuple(others) or (chunk,)
    for one in _known:
        if one.chunks == chunks:
            return one
    made = Known(chunks)
    _known.insert(0, made)
    del _known[_HELD:]
    return made


def english(chunk: Chunk, others: Sequence[Chunk]) -> bool:
    """Whether a chunk is in English, so that English questions may be asked of it."""
    return known(chunk, others).language(chunk) == "en"
