"""Versions: what changed between two versions of documents, chunk by chunk, sentence by sentence; what is to be answered now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from addenda.exercises.exercise import Chunk
from addenda.text.chunks import identity
from addenda.text.sentences import sentences
from addenda.text.words import content_words, words

#: a sentence was replaced by the new one that has this share of its words in common with it; by none it is gone
ALIKE = 0.6
#: an answer in other words than the text's comes from the sentence that has this share of its words
FROM = 0.6
#: exercises that are answered with all of a section or list: what was added to it is missing in the old answer
WHOLE = frozenset({"lists", "passages"})
YES, NO = "Yes.", "No."


class Fate(StrEnum):
    """What became of an exercise whose chunk is gone."""

    STATED = "stated"
    """the new documents say its answer as well"""
    CHANGED = "changed"
    """they answer it otherwise"""
    GONE = "gone"
    """they do not answer it"""
    UNSURE = "unsure"
    """neither can be told from the words alone"""


@dataclass(frozen=True)
class Changes:
    """Chunks by what they say: `same` has an old chunk's name to its name now; names of `new` and of `gone` ones.

    A chunk that was changed is gone, and another is new.
    """

    same: Mapping[str, str]
    new: frozenset[str]
    gone: frozenset[str]

    @classmethod
    def between(cls, old: Mapping[str, Chunk], new: Mapping[str, Chunk]) -> Changes:
        """Compare the chunks of two versions."""
        known: dict[str, str] = {}
        for name, chunk in new.items():
            known.setdefault(identity(chunk.headings, chunk.text), name)
        marks = {name: identity(chunk.headings, chunk.text) for name, chunk in old.items()}
        there = set(marks.values())
        return cls(
            {name: known[mark] for name, mark in marks.items() if mark in known},
            frozenset(n for n, chunk in new.items() if identity(chunk.headings, chunk.text) not in there),
            frozenset(name for name, mark in marks.items() if mark not in known),
        )

    def __str__(self) -> str:
        kept = len(set(self.same.values()))
        return f"{len(self.new):,} of {kept + len(self.new):,} chunks are new, {len(self.gone):,} are gone, {kept:,} unchanged"


class Stated:
    """The sentences of a version, with the chunk that each stands in, by their words."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self.sentences: dict[tuple[str, ...], tuple[str, str]] = {}
        self.known: set[str] = set()
        for chunk in chunks:
            self.known |= content_words("\n".join([chunk.document, *chunk.headings, chunk.text]))
            for sentence in sentences(chunk.text):
                self.sentences.setdefault(tuple(words(sentence)), (sentence, chunk.id))
        self.content = {key: content_words(sentence) for key, (sentence, _) in self.sentences.items()}


@dataclass(frozen=True)
class Now:
    """What became of an answer: what is said now, where it is stated or changed, and the chunk that says it."""

    fate: Fate
    answer: str | None = None
    chunk: str | None = None


UNSURE = Now(Fate.UNSURE)


class Versions:
    """Two versions of documents, and what became of the answers of the old one."""

    def __init__(self, old: Mapping[str, Chunk], new: Mapping[str, Chunk]) -> None:
        self.old, self.chunks, self.changes = Stated(old.values()), old, Changes.between(old, new)
        self.new = Stated(new.values())
        self._fresh = [key for key in self.new.sentences if key not in self.old.sentences]
        self._having: dict[str, list[tuple[str, ...]]] = {}
        for key in self._fresh:
            for word in self.new.content[key]:
                self._having.setdefault(word, []).append(key)

    def now(self, question: str, earlier: Sequence[str], answer: str, chunks: Sequence[str], kind: str) -> Now:
        """What became of an exercise of which a chunk is gone.

        Args:
            question: that is asked last.
            earlier: answers before it, in the same conversation.
            answer: what was to be said.
            chunks: names of the old chunks that it comes from.
            kind: of exercise.
        """
        if kind in WHOLE or any(self._one(question, said, chunks).fate is not Fate.STATED for said in earlier):
            return UNSURE
        head = next((word for word in (YES, NO) if answer.startswith(f"{word} ")), "")
        parts = list(sentences(answer[len(head) :].strip()))
        from_text = [part for part in parts if self._source(part, chunks) is not None]  # others were added by a person
        found = {part: self._one(question, part, chunks, head) for part in from_text}
        fates = {one.fate for one in found.values()}
        if not found or Fate.UNSURE in fates or (Fate.GONE in fates and len(fates) > 1):
            return UNSURE
        if fates == {Fate.GONE}:
            return Now(Fate.GONE)
        if fates == {Fate.STATED}:
            return Now(Fate.STATED, answer, found[from_text[0]].chunk)
        if head and len(found) > 1:
            return UNSURE
        changed = next(one for one in found.values() if one.fate is Fate.CHANGED)
        said = " ".join(str(found[part].answer) if part in found else part for part in parts)
        return Now(Fate.CHANGED, said, changed.chunk)

    def may_tell(self, asked: set[str]) -> bool:
        """Whether a new sentence has all words that are asked for."""
        return bool(asked) and any(asked <= self.new.content[key] for key in self._fresh)

    def _one(self, question: str, said: str, chunks: Sequence[str], head: str = "") -> Now:
        """What became of one sentence of an answer."""
        source = self._source(said, chunks)
        if source is None:
            return UNSURE
        if source in self.new.sentences:
            return Now(Fate.STATED, said, self.new.sentences[source][1])
        asked, after = content_words(question), self._replaced(source)
        subject = asked & self.old.content[source]
        if not subject:
            return UNSURE
        lost = asked & (self.old.content[source] - (self.new.content[after] if after else set()))
        if after is None or (lost and not head):
            named = any(word[0].isdigit() or word in _names(question) for word in lost)
            return UNSURE if self._told(subject, content_words(said) - asked, named) else Now(Fate.GONE)
        new = self._rewritten(said, source, after)
        if new is None or head == NO:
            return UNSURE
        if head:
            new = f"{NO if lost else YES} {new}"
        return Now(Fate.CHANGED, new, self.new.sentences[after][1])

    def _source(self, said: str, chunks: Sequence[str]) -> tuple[str, ...] | None:
        """The old sentence that an answer is: word for word, or the one of its chunks that has most of its words."""
        exact = tuple(words(said))
        if exact in self.old.sentences:
            return exact
        wanted = content_words(said)
        own = [tuple(words(one)) for name in chunks for one in sentences(self.chunks[name].text)]
        best = max(own, key=lambda key: len(wanted & self.old.content[key]), default=None)
        if best is None or not wanted or len(wanted & self.old.content[best]) < FROM * len(wanted):
            return None
        return best

    def _replaced(self, source: tuple[str, ...]) -> tuple[str, ...] | None:
        """The new sentence that stands for an old one: most of their words are the same."""
        near = {key for word in self.old.content[source] for key in self._having.get(word, ())}
        shares = {key: _common(source, key) for key in sorted(near)}
        best = max(shares, key=shares.__getitem__, default=None)
        return best if best is not None and shares[best] >= ALIKE else None

    def _rewritten(self, said: str, source: tuple[str, ...], after: tuple[str, ...]) -> str | None:
        """An answer with what its sentence has now; None where more than one passage of words was changed."""
        old, new = self.old.sentences[source][0], self.new.sentences[after][0]
        if tuple(words(said)) == source:
            return new
        a, b = old.split(), new.split()
        swaps = [part for part in SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes() if part[0] != "equal"]
        if len(swaps) != 1 or swaps[0][0] != "replace":
            return None
        _, start, end, first, last = swaps[0]
        was, now = (" ".join(part).strip(".,;:!?|") for part in (a[start:end], b[first:last]))
        return said.replace(was, now) if was and now and said.count(was) == 1 else None

    def _told(self, subject: set[str], telling: set[str], named: bool) -> bool:
        """Whether the new documents may answer after all, in other words.

        A sentence that was there has to have both subject and answer, a new one either; where the question has a number or a name
        that is gone, both or the subject.
        """
        whole = subject | telling
        if any(whole <= content for content in self.new.content.values()):
            return True
        fresh = [self.new.content[key] for key in self._fresh]
        return any(subject <= content or (not named and telling and telling <= content) for content in fresh)


def _names(question: str) -> set[str]:
    """The names in a question: words in capitals but for its first."""
    return content_words(" ".join(word for word in question.split()[1:] if word[0].isupper()))


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """The share of words that two sentences have in common."""
    return 2 * sum((Counter(one) & Counter(other)).values()) / (len(one) + len(other))
