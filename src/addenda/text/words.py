"""Words of a text for comparisons: case and punctuation do not count, scripts without spaces are read character by character."""

from __future__ import annotations

import re
from itertools import pairwise

#: a word, or one character of a script that is written without spaces
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|(?:(?![\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f])\w)+"
)
#: English words that name nothing
_COMMON = frozenset(
    """a about above after again all also always am an and any are as at be because been before being below between both but
    by can cannot could did do does doing done during each either else ever every few for from further get gets give given
    had has have having he her here hers him his how i if in into is it its itself just kind let like made make many may
    me might more most much must my need needs neither never no nor not now of off on once one only or other our out over
    own please same say says shall she should so some such tell tells than that the their them then there these they thing
    things this those through to too under until up us use used very was we well were what when where whether which while
    who whom whose why will with within without would yes yet you your""".split()
)


def words(text: str) -> list[str]:
    """The words of a text in small letters."""
    return _WORD.findall(text.casefold())


def content_words(text: str) -> set[str]:
    """The words of a text that may name something, without a plural's `s`; of scripts without spaces, each two characters."""
    found = words(text)
    plain = {_singular(word) for word in found if word not in _COMMON and (len(word) > 2 or word.isdigit())}
    return plain | {a + b for a, b in pairwise(found) if len(a) == len(b) == 1 and not (a + b).isascii()}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
