"""What is known of all chunks together, worked out once: each document's language, names, and how often a term is told of."""

from __future__ import annotations

import re
from bisect import bisect_left
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
#: where a word of several parts is taken apart
_PARTS = re.compile(r"['’\-./]")
_HELD = 4
_known: list[Known] = []


class Vocabulary:
    """The words of a text, whole and in their parts (`car-park`), by their stems and by how they begin."""

    def __init__(self, text: str) -> None:
        parts = {part.lower() for word in words.words(text) for part in (word, *_PARTS.split(word)) if part}
        self.stems = frozenset(map(words.stem, parts))
        self._sorted = sorted(parts)

    def has(self, wanted: str) -> bool:
        """Whether any of these words stands in the text; `park*` is any that begins so."""
        return any(
            self._begun(one[:-1]) if one.endswith("*") else words.stem(one) in self.stems for one in wanted.split()
        )

    def _begun(self, start: str) -> bool:
        at = bisect_left(self._sorted, start)
        return at < len(self._sorted) and self._sorted[at].startswith(start)


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
    def vocabulary(self) -> Vocabulary:
        """Every word of all documents and headings."""
        return Vocabulary("\n".join(chunk.read for chunk in self.chunks))

    def around(self, noun: str) -> Vocabulary:
        """Every word of the sections that speak of a thing."""
        stem = words.stem(noun)
        if ("around", stem) not in self.kept:
            there = {(one.document, one.headings) for one in self.chunks if stem in self._vocabularies[one.id].stems}
            said = (one.read for one in self.chunks if (one.document, one.headings) in there)
            self.kept["around", stem] = Vocabulary("\n".join(said))
        return self.kept["around", stem]

    @cached_property
    def _vocabularies(self) -> dict[str, Vocabulary]:
        return {chunk.id: Vocabulary(chunk.read) for chunk in self.chunks}

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
        return any(words.stem(word) in self.vocabulary.stems for word in words.content(text))

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
