"""What a sentence states: money, amounts, times, dates, codes and names, each found by its form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from addenda.exercises import words

_MONTH, _DAY = "|".join(words.MONTHS), "|".join(words.DAYS)
_NUMBER = (
    r"(?:\d+(?:[.,]\d+)*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen|eighteen|nineteen|twenty(?:-\w+)?|thirty(?:-\w+)?|forty(?:-\w+)?|fifty(?:-\w+)?|sixty(?:-\w+)?|seventy"
    r"|eighty|ninety|a hundred|a thousand|a dozen)"
)
_ABOUT = (
    r"(?:(?:about|around|roughly|approximately|exactly|only|just|nearly|almost|at most|at least|up to|more"
    r" than|less than|fewer than|no more than|not more than) )?"
)
_COIN = r"(?:euros?|dollars?|pounds?|cents?|francs?|crowns?|kroner|kronor|yen|rupees?|EUR|USD|GBP|CHF|€|\$|£)"
_CLOCK = (
    r"(?:\d{1,2}:\d{2}(?: ?[ap]\.?m\b\.?)?|\d{1,2}\.\d{2} ?[ap]\.?m\b\.?|\d{1,2}\.(?:00|15|30|45)(?!\d|"
    r" ?(?:per\b|[a-z]*(?:euro|cent|metre|gram|litre)"
    rf"|%|k?[gm]\b|{_COIN}))|\d{{1,2}} ?[ap]\.?m\b\.?|\d{{1,2}} o['’]clock|noon|midnight)"
)
MONEY = (
    rf"{_ABOUT}(?:[€$£¥] ?\d+(?:[.,]\d+)*(?: (?:million|billion))?|{_NUMBER}(?: (?:million|billion))?"
    rf" ?{_COIN}(?!\w))(?:,? (?:(?:a|an|per|each|every) (?!half|quarter)[a-z]+))?"
)
CLOCK = _CLOCK
DATE = (
    rf"(?:(?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?: of)? (?:{_MONTH})(?:,? \d{{4}})?|(?:{_MONTH}) \d{{1,2}}(?:st|nd"
    rf"|rd|th)?(?:, \d{{4}})?"
    rf"|(?:{_MONTH})(?: \d{{4}})?|(?:1[0-9]|20)\d{{2}}(?!\d|[-/]\w|[.,]\d))"
)
DAY = rf"(?:{_DAY})s?(?: (?:mornings?|afternoons?|evenings?|nights?))?"
CODE = r"(?<![\w/-])(?=[A-Z0-9/-]*\d)(?=[A-Z0-9/-]*[A-Z])[A-Z0-9]+(?:[-/][A-Z0-9]+)*(?![\w/-])"
PERCENT = rf"{_ABOUT}{_NUMBER} ?(?:%|percent|per cent)"
#: `up to five tools`, its noun in a group of its own
AMOUNT = (
    rf"(?P<about>{_ABOUT})(?P<number>{_NUMBER}) (?P<unit>(?!(?:and|or|of|to|has|is|was|does|as|this|its"
    rf"|times)\b)(?:[a-z]+-)?(?:(?!(?:and|or|of|to|in|for|on|by|has|is|with)\b)[a-z]+ ){{0,1}}?(?!(?:has|is|was"
    rf"|as|its|this|always|times)\b)[a-z]+s|metres|people|children|kg|km|cm|mm|m|g|ml|litres)(?![\w-])"
)
_PART = r"[A-ZÀ-Þ][a-zà-ÿ'’]+(?:-[A-ZÀ-Þ][a-zà-ÿ]+)?"
NAME = rf"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?{_PART}(?: [A-Z]\.)?(?: (?:van|von|de|der|da|di|del|la|le|al|bin))*(?: {_PART}){{1,2}}"


@dataclass(frozen=True)
class Span:
    """A stated piece of a text, and of what sort it is."""

    text: str
    sort: str
    start: int


def is_person(name: str) -> bool:
    """Whether a name has the form of a person's: two or three capitalised words, none of a place, a day or a firm."""
    parts = [part.lower() for part in words.words(name)]
    calendar = {part.lower() for part in (*words.MONTHS, *words.DAYS)}
    known = words.NOT_PERSONS | words.COMMON | calendar
    return bool(re.fullmatch(NAME, name)) and not any(part in known or part.rstrip("s") in known for part in parts)


_SORTS = (("money", MONEY), ("percent", PERCENT), ("clock", CLOCK), ("date", DATE), ("day", DAY), ("code", CODE))


def spans(text: str) -> Iterator[Span]:
    """Money, percentages, times, dates, codes, names and amounts of a text; none lies within another."""
    taken: list[tuple[int, int]] = []
    for sort, form in (*_SORTS, ("name", NAME), ("amount", AMOUNT)):
        for match in re.finditer(rf"(?<![\w-]){form}" if sort != "code" else form, text):
            start, end = match.span()
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            if sort == "name" and start == 0 and match[0].split()[0].lower() in words.COMMON:
                continue
            taken.append((start, end))
            yield Span(match[0], sort, start)
