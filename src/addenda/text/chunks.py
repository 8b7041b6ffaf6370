"""Chunks: documents cut at paragraphs into pieces that fit a window, each under its headings and known by what it says."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from addenda.core.errors import DataError
from addenda.exercises.exercise import Chunk
from addenda.text.blocks import RULE
from addenda.text.documents import ReadDocument
from addenda.text.sentences import sentences

#: tokens of a chunk at most, its headings among them; at least, so that headings leave room for a text
TOKENS, LEAST = 256, 32
#: characters that are cut out of a text without any space at a time
CHARACTERS = 32
#: letters of a chunk's identity in its name
LETTERS = 8
Count = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class _Piece:
    """A part of a chunk that is not cut: what stands before it (an empty line, a line end, a space), and tokens with that."""

    text: str
    before: str
    tokens: int


def chunks(documents: Iterable[ReadDocument], tokenizer: Any, tokens: int = TOKENS) -> list[Chunk]:
    """Cut documents into chunks.

    A chunk lies under one heading, and is cut between paragraphs; a paragraph that is too long is cut between its lines, then
    between sentences, a sentence that is too long between words. A table that is cut has its head in each part. A chunk is
    called `handbook.md#1f0c9a2e`, by a hash of its headings and text: the same as long as they are, whatever changes around it.

    Args:
        documents: as `documents` reads them.
        tokenizer: the base's, which counts.
        tokens: of a chunk at most, headings among them.

    Raises:
        DataError: `tokens` is too few.
    """
    if tokens < LEAST:
        raise DataError(f"chunks have at least {LEAST} tokens; got {tokens}")
    count = _counter(tokenizer)
    found: list[Chunk] = []
    for document in documents:
        seen: Counter[str] = Counter()
        for headings, text in _cut(document, count, tokens):
            mark = identity(headings, text)
            seen[mark] += 1
            twice = f"-{seen[mark]}" if seen[mark] > 1 else ""
            found.append(Chunk(f"{document.name}#{mark[:LETTERS]}{twice}", document.name, headings, text))
    return found


def identity(headings: Sequence[str], text: str) -> str:
    """A hash of what a chunk says, and under which headings."""
    return hashlib.sha256("\0".join([*headings, "", text]).encode()).hexdigest()


def _counter(tokenizer: Any) -> Count:
    def count(texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    return count


def _cut(document: ReadDocument, count: Count, tokens: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Headings and text of each chunk of a document, in order."""
    for headings, passages in _sections(document):
        shown = _fitting(headings, count, tokens // 2)
        room = tokens - (count([" > ".join(shown) + "\n\n"])[0] if shown else 0)
        for text in _packed([piece for passage in passages for piece in _pieces(passage, count, room)], count, room):
            yield shown, text


def _sections(document: ReadDocument) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The passages under each heading, with all headings that they stand under, the highest first."""
    above: list[tuple[int, str]] = []
    passages: list[str] = []
    for block in document.blocks:
        if not block.level:
            passages.append(block.text)
            continue
        if passages:
            yield tuple(text for _, text in above), passages
            passages = []
        above = [(level, text) for level, text in above if level < block.level] + [(block.level, block.text)]
    if passages:
        yield tuple(text for _, text in above), passages


def _fitting(headings: tuple[str, ...], count: Count, tokens: int) -> tuple[str, ...]:
    """The lowest headings that leave room for a text; one that is too long alone loses its end."""
    while len(headings) > 1 and count([" > ".join(headings)])[0] > tokens:
        headings = headings[1:]
    if headings and count(list(headings))[0] > tokens:
        words = headings[0]
        while words and count([words])[0] > tokens:
            words = words[: len(words) * 3 // 4].rpartition(" ")[0] or words[: len(words) // 2]
        headings = (words,) if words else ()
    return headings


def _pieces(passage: str, count: Count, room: int) -> list[_Piece]:
    """A passage as pieces of at most `room` tokens: itself, or its lines, sentences, words, runs of characters."""
    whole = count([passage])[0]
    if whole <= room:
        return [_Piece(passage, "\n\n", whole + 1)]
    lines = passage.split("\n")
    head = lines[:2] if len(lines) > 2 and RULE.fullmatch(lines[1]) else []
    if head and (taken := count(["\n".join(head) + "\n"])[0]) < room // 2:
        rows = _split(lines[2:], "\n", count, room - taken)
        parts = _packed(rows, count, room - taken)
        return [_Piece(text := "\n".join([*head, part]), "\n\n", count([text])[0]) for part in parts]
    pieces = _split(lines, "\n", count, room)
    return [_Piece(pieces[0].text, "\n\n", pieces[0].tokens), *pieces[1:]] if pieces else []


def _split(parts: Iterable[str], before: str, count: Count, room: int, finer: int = 0) -> list[_Piece]:
    """Parts as pieces; those that are too long are cut more finely."""
    listed = [part for part in parts if part.strip()]
    made: list[_Piece] = []
    for part, size in zip(listed, count([before + part for part in listed]), strict=True):
        if size <= room or finer == len(_FINER):
            made.append(_Piece(part, before, size))
            continue
        cut, joint = _FINER[finer]
        inside = _split(cut(part), joint, count, room, finer + 1)
        made += [_Piece(inside[0].text, before, inside[0].tokens), *inside[1:]] if inside else []
    return made


#: how a line that is too long is cut, ever more finely, and what joins the parts again
_FINER: tuple[tuple[Callable[[str], Iterable[str]], str], ...] = (
    (sentences, " "),
    (str.split, " "),
    (lambda word: (word[at : at + CHARACTERS] for at in range(0, len(word), CHARACTERS)), ""),
    (list, ""),
)


def _packed(pieces: Sequence[_Piece], count: Count, room: int) -> list[str]:
    """Pieces joined to texts of at most `room` tokens, each as full as it gets."""
    made: list[str] = []
    held: list[_Piece] = []
    size = 0
    queue = list(reversed(pieces))
    while queue:
        piece = queue.pop()
        if held and size + piece.tokens > room + 1:
            queue += [piece, *reversed(_overfull(held, count, room))]
            made.append(_joined(held))
            held, size = [], 0
            continue
        held.append(piece)
        size += piece.tokens
    while held:
        rest = _overfull(held, count, room)
        made.append(_joined(held))
        held = rest
    return made


def _overfull(held: list[_Piece], count: Count, room: int) -> list[_Piece]:
    """Take off the end what is too much after all: joined, pieces may have a token more than apart."""
    rest: list[_Piece] = []
    while len(held) > 1 and count([_joined(held)])[0] > room:
        rest.insert(0, held.pop())
    return rest


def _joined(pieces: Sequence[_Piece]) -> str:
    return "".join(piece.before * bool(at) + piece.text for at, piece in enumerate(pieces))
