"""A chunk read: its sentences, lists, tables and lines of key and value, whatever language it is in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from addenda.exercises import words
from addenda.exercises.exercise import Chunk

_SHORT = (
    "mr mrs ms dr prof st no nr nos vs etc eg ie e.g i.e cf ca approx fig figs eq sec ch vol pp p ed eds inc ltd co corp jr sr"
    " dept est tel ext max min jan feb mar apr jun jul aug sep sept oct nov dec z.b bzw usw ggf inkl d.h u.a vgl mme mlle m"
    " art abs al rev gen col capt lt sgt hon gov sen rep u.s u.k a.m p.m"
).split()
_ENDS = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*)(?=\s+[\"'“‘«(\[]?[^\W_])|[。！？]+[」』”）]*")
_ITEM = re.compile(r"^\s*(?:[-*•–+]|\(?(?:\d{1,2}|[a-z])[.)])\s+(?=\S)")
_RULE = re.compile(r"^[\s|:+=-]+$")


@dataclass(frozen=True)
class Sentence:
    """A sentence, the number of its paragraph in the chunk, and whether the document has it as an item of a list."""

    text: str
    paragraph: int
    item: bool = False


@dataclass(frozen=True)
class Listing:
    """A list: what leads into it, which may be empty, its items, and the sentence before what leads into it."""

    lead: str
    items: tuple[str, ...]
    before: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its columns, and its rows, each as long."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Reading:
    """What a chunk holds; `pairs` are its lines of the form `key: value`."""

    sentences: tuple[Sentence, ...] = ()
    lists: tuple[Listing, ...] = ()
    tables: tuple[Table, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


def plain(text: str) -> str:
    """A line without Markdown's marks of emphasis, code and links, and with single spaces."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)\s]*\)", r"\1", text)
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])([*_])(?=\S)([^*_]+?)(?<=\S)\1(?![\w*])", r"\2", text)
    return re.sub(r"\s+", " ", text.replace("`", "")).strip()


def split(text: str) -> list[str]:
    """The sentences of a paragraph; abbreviations, initials, numbers and dates do not end one."""
    found: list[str] = []
    start = 0
    for end in _ENDS.finditer(text):
        before = text[max(start, end.start() - 40) : end.start()].split()
        last = before[-1].strip("(\"'“‘«[").lower() if before else ""
        after = text[end.end() : end.end() + 80].lstrip()
        if end[0] == "." and _goes_on(last, after):
            continue
        if end[0][0] in ".…" and after[:1].islower():
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in [*found, text[start:].strip()] if sentence]


def _goes_on(last: str, after: str) -> bool:
    """Whether a full stop after this word is that of an abbreviation, an initial or an ordinal."""
    if last in ("a.m", "p.m", "etc", "inc", "ltd", "co", "corp", "u.s", "u.k", "al"):  # these do end sentences
        return not re.match(r"[A-ZÀ-Þ\"“]", after) or (
            last in ("inc", "u.s") and not re.match(r"(The|In|It|He|She|A) ", after)
        )
    if last in _SHORT:
        return last not in ("no", "may", "m", "art") or bool(re.match(r"\d", after))
    if re.fullmatch(r"[^\W\d_]", last) or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", last):
        return True
    return bool(re.fullmatch(r"\d{1,2}", last)) and bool(re.match(r"(?:[A-Z][a-zäûé]+ \d{4}|[a-zà-ÿ])", after))


@lru_cache(maxsize=4096)
def read(chunk: Chunk) -> Reading:
    """A chunk's sentences, lists, tables and pairs, each in the document's order."""
    sentences: list[Sentence] = []
    lists: list[Listing] = []
    tables: list[Table] = []
    pairs: list[tuple[str, str]] = []
    lead = before = ""
    for number, block in enumerate(_blocks(chunk.text)):
        rows = _rows(block)
        if rows:
            tables.append(Table(rows[0], tuple(row for row in rows[1:] if len(row) == len(rows[0]))))
            continue
        prose, items = _items(block)
        if prose:
            keyed = [_pair(line) for line in prose]
            if all(keyed) and not items:
                pairs += [pair for pair in keyed if pair]
                sentences += _within((pair[1] for pair in keyed if pair), number, item=True)
                continue
            said = split(plain(" ".join(prose)))
            sentences += [Sentence(text, number) for text in said if _whole(text)]
            lead = said[-1] if said and said[-1].endswith((":", "：")) else ""
            before = said[-2] if len(said) > 1 else ""
        if items:
            keyed = [_pair(item) for item in items]
            pairs += [pair for pair in keyed if pair]
            sentences += _within(
                (pair[1] if pair else item for pair, item in zip(keyed, items, strict=True)), number, item=True
            )
            if not all(keyed) or lead:
                lists.append(Listing(lead.rstrip(":： "), tuple(items), before))
            lead = ""
    return Reading(tuple(sentences), tuple(lists), tuple(tables), tuple(pairs))


def _within(texts: Iterator[str], paragraph: int, *, item: bool) -> list[Sentence]:
    """The whole sentences in texts that need not be any."""
    return [Sentence(said, paragraph, item) for text in texts for said in split(text) if _whole(said)]


def _whole(text: str) -> bool:
    """Whether a text has a sentence's beginning, end and length, and closes what it opens."""
    if not text.endswith((".", "!", "?", ".”", '."', ".)", "。", "！", "？")) or not 8 <= len(text) <= 400:
        return False
    if any(text.count(one) != text.count(two) for one, two in ("()", "[]", "“”", "«»")) or text.count('"') % 2:
        return False
    return not text[0].islower()


def _blocks(text: str) -> Iterator[list[str]]:
    """Paragraphs, as their lines; a heading inside a chunk stands alone, and is left out."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        heading = re.match(r"#{1,6}\s", line)
        if line.strip() and not heading:
            block.append(line.rstrip())
        elif block:
            yield block
            block = []


def _rows(block: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows of a table, its columns' names first; none where a block is no table of two columns and two rows."""
    for mark in ("|", "\t"):
        if len(block) >= 3 and all(mark in line.strip("| ") for line in block if not _RULE.match(line)):
            cells = [line.strip().strip("|").split(mark) for line in block if not _RULE.match(line)]
            rows = [tuple(plain(cell) for cell in row) for row in cells]
            same = all(len(row) == len(rows[0]) for row in rows)
            if same and len(rows) >= 3 and len(rows[0]) >= 2 and all(rows[0]) and len(set(rows[0])) == len(rows[0]):
                return rows
    return []


def _items(block: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lines of a block before its list, and the list's items; lines that are set in go on with an item."""
    prose: list[str] = []
    items: list[str] = []
    for line in block:
        mark = _ITEM.match(line)
        if mark:
            items.append(plain(line[mark.end() :]))
        elif items:
            items[-1] = plain(f"{items[-1]} {line}")
        else:
            prose.append(line)
    return prose, items


def _pair(line: str) -> tuple[str, str] | None:
    """Key and value of a line `key: value`."""
    match = re.match(r"^([^\W\d_][^:.!?|]{1,60}?) ?[:：] (\S.*)$", plain(line))
    if not match or len(match[1].split()) > 6 or match[1].lower() in ("note", "important", "warning", "tip", "example"):
        return None
    return match[1].strip(), match[2].strip()


_LANGUAGES = {
    "en": "the of and to in is are that for it with as was on by be this from or at".split(),
    "fr": "le la les des et est une dans que pour qui sur au par ne pas du il sont un".split(),
    "de": "der die das und ist nicht ein eine zu den mit von im sich auf für dem des werden sie".split(),
    "es": "el la los las de y es que en un una por con para del se no su al son".split(),
    "it": "il la di che è e un una per non in del della sono con le gli al si da".split(),
}


@lru_cache(maxsize=4096)
def language(text: str) -> str:
    """`en`, `fr`, `de`, `es` or `it` by a text's small words; an empty string where none is likely."""
    said = [word.lower() for word in words.words(text[:20000])]
    shares = {name: sum(word in known for word in said) for name, known in _LANGUAGES.items()}
    best = max(shares, key=lambda name: shares[name])
    rest = max(count for name, count in shares.items() if name != best)
    return best if said and shares[best] >= 0.12 * len(said) and shares[best] > 1.3 * rest else ""
