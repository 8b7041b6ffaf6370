"""Sentences: where a passage may be cut without breaking what it states; abbreviations and numbers are survived."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: words with a full stop after which a sentence goes on
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof st sr jr vs etc e.g i.e cf al approx no nos fig figs eq sec secs ch vol vols ed eds pp p art dept est inc
    ltd co corp tel ext jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun z.b d.h u.a bzw ca nr usw vgl
    str abs mio mrd av bd env m mme mlle""".split()
)
_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s|$)|[。！？]+["'”’」』）]*""")
_OPENS = re.compile(r"""\s*["'“‘«„(\[¿¡]*[^\W_]""")


def sentences(text: str) -> Iterator[str]:
    """The sentences of a passage, each line for itself: all words in order, without the spaces around them."""
    for line in text.split("\n"):
        yield from _of_line(line)


def _of_line(line: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(line):
        if _goes_on(line, start, end):
            continue
        sentence = line[start : end.end()].strip()
        if sentence:
            yield sentence
        start = end.end()
    rest = line[start:].strip()
    if rest:
        yield rest


def _goes_on(line: str, start: int, end: re.Match[str]) -> bool:
    """Whether a sentence goes on after a mark that mostly ends one."""
    if end[0][0] not in ".…":
        return False
    after = line[end.end() :]
    opens = _OPENS.match(after)
    if opens is None:
        return False
    if after[: opens.end()][-1].islower():
        return True
    if end[0][0] != ".":
        return False
    before = line[start : end.start()].rsplit(None, 1)[-1:] or [""]
    word = before[0].lstrip("(\"'“‘[").casefold()
    single = len(word) == 1 and word.isalpha() and before[0][-1].isupper()
    return word in _ABBREVIATIONS or single or (word.isdigit() and len(line[start : end.start()].split()) == 1)
