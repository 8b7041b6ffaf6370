"""Asking a teacher for questions, and reading what it says: what is no question, or a bad one, is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import cast

from addenda.core import registry
from addenda.exercises import words
from addenda.exercises.exercise import Ask, Chunk, Made, Message, Mined
from addenda.exercises.parsing import clauses, named_here, points
from addenda.exercises.reading import language, read
from addenda.exercises.wording import specific

#: tokens of a question at most: what is longer is cut off, and dropped
TOKENS = 48
_LABEL = re.compile(
    r"^(?:[-*•>#\d.)\s]+|(?:the )?(?:new |next |final |rephrased |rewritten )?(?:question|q|user"
    r"|here[^:?]{0,60})\s*\d*\s*[:.]\s*)+",
    re.IGNORECASE,
)
_BEGINS = re.compile(
    r"^(?:[\w'’-]+,? ){0,6}?(?:who|whose|whom|what|which|when|where|why|how|is|are|was|were|do|does|did|can|could|may|must|should"
    r"|will|would|has|have|had|am|if|at|in|on|by|for|to|from|under|within|after|according)\b",
    re.IGNORECASE,
)
#: words of the task itself
_TASK = re.compile(
    r"\b(?:sentence|passage|paragraph|the text|this text|given text|excerpt|the answer|question|mentioned"
    r"|provided|above|below|following"
    r"|the document|the author|as stated|described)\b",
    re.IGNORECASE,
)
_ACCORDING = re.compile(
    r",? ?\b(?:according to|based on|in|as per) (?:the|this) (?:given |provided )?(?:text|passage|document|sentence)\b,? ?",
    re.IGNORECASE,
)


def ask(chunk: Chunk, task: str, *others: Chunk, earlier: Sequence[Message] = ()) -> tuple[Message, ...]:
    """What a teacher is given: the chunk, further chunks, and a task that asks for one question."""
    read = "\n\n".join(one.read for one in (chunk, *others))
    end = " Use its language." if language(chunk.text) not in ("en", "") else ""
    return (
        *earlier,
        {"role": "user", "content": f"Text:\n{read}\n\n{task}{end} Write only the question, in one line."},
    )


def question_in(said: str) -> str | None:
    """The one question in what a teacher said, without what stands around it; None where there is none that is whole."""
    for line in said.splitlines():
        text = _LABEL.sub("", line.strip()).strip(" *_\"“”'`«»")
        if not text:
            continue
        end = re.search(r"[?？]", text)
        if not end:
            return None
        text = _ACCORDING.sub(" ", text[: end.end()]).strip()
        text = re.sub(r"\s+([?？])", r"\1", re.sub(r"\s+", " ", text)).lstrip("\"“'")
        text = text[:1].upper() + text[1:]
        return text if _well_formed(text) else None
    return None


def _well_formed(question: str) -> bool:
    """Whether a question has the form of one: a beginning, a length, no task in it, no loop."""
    said = question.lower().split()
    if not 4 <= len(said) <= 32 or _TASK.search(question) or "\n" in question or question.count('"') % 2:
        return False
    if re.search(r"[.!:;] [A-Z]|[{}<>|\\]|https?:", question):
        return False
    pairs = list(pairwise(said))
    if len(set(pairs)) < len(pairs) - 1:
        return False
    return bool(_BEGINS.match(question)) or language(question) not in ("en", "")


def asks_for(question: str, answer: str, chunk: str = "") -> bool:
    """Whether a question may have this answer: it names its subject, shares a word with it, and gives nothing away."""
    asked, told = _stems(question), _stems(answer)
    if points(question) or re.search(r"\b(?:he|she|they)\b", question.lower()) or not specific(question):
        return False
    if not asked & (told | _stems(chunk)) or not told - asked:
        return False
    numbers = set(re.findall(r"\d[\d.,:]*", answer))
    given = set(re.findall(r"\d[\d.,:]*", question))
    return not (numbers and numbers <= given) and len(told & asked) <= 0.8 * len(told)


def _stems(text: str) -> frozenset[str]:
    return frozenset(words.stem(word) for word in words.content(text))


def sentences_of(chunk: Chunk, others: Sequence[Chunk]) -> list[str]:
    """The sentences of a chunk that say something by themselves, in any language."""
    whole = [clause.said for clause in clauses(chunk, others)]
    if whole:
        return list(dict.fromkeys(whole))
    said = [one.text for one in named_here(chunk, others)] or [one.text for one in read(chunk).sentences]
    return [
        text
        for text in dict.fromkeys(said)
        if not points(text) and 5 <= len(text.split()) <= 45 and text.endswith((".", "。"))
    ]


def mined_by(kinds: Sequence[str], chunk: Chunk, others: Sequence[Chunk], draw: Random) -> list[Made]:
    """What other kinds mine of a chunk, in one turn each."""
    made: list[Made] = []
    for kind in kinds:
        method = cast("Mined", registry.build("exercise", kind, {}))
        made += [one for one in method.mine(chunk, others, draw) if len(one.messages) == 2]
    return made


def one_of(said: str, kept: Ask) -> Iterator[tuple[str, str]]:
    """The question in what was said and the answer that is kept with the ask, where the two fit."""
    question, answer = question_in(said), str(kept.keep["answer"])
    if question and asks_for(question, answer, str(kept.keep.get("about", ""))):
        yield question, answer
