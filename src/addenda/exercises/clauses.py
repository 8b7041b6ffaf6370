"""Clauses: subject, verb and rest of an English sentence, and how they become a question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from addenda.exercises import words


@dataclass(frozen=True)
class Clause:
    """`The fee for late return is 4 euros a day.` as `the fee for late return`, `is`, `4 euros a day`.

    `said` is the document's sentence. `before` is what opened it (`on Mondays`), `condition` the clause that did (`if the seal
    is broken`). `base` is the verb's base form where a question needs `do`; `negative` a `not` that was taken out of `rest`.
    """

    said: str
    subject: str
    verb: str
    rest: str
    base: str = ""
    do: str = ""
    negative: bool = False
    before: str = ""
    condition: str = ""
    proper: bool = False
    item: bool = False

    @property
    def plural(self) -> bool:
        """Whether the verb agrees with many."""
        return self.verb in ("are", "were", "have") or self.do == "do"

    @property
    def head(self) -> str:
        """The subject's noun: `fee` of `the fee for late return`."""
        front = re.split(rf" (?:{'|'.join(words.PREPOSITIONS)}|who|that|which|whose) ", f"{self.subject} ")[0].split()
        return front[-1] if front else ""

    def ask(self, wh: str, rest: str | None = None) -> str:
        """A question that turns subject and verb round: `How much` becomes `How much is the fee for late return`."""
        rest = self.rest if rest is None else rest
        turned = [self.do, self.subject, self.base] if self.do else [self.verb, self.subject]
        return finish([wh, *turned, "not" if self.negative else "", rest, self.before, self.condition])

    def of_subject(self, wh: str) -> str:
        """A question for the subject: `Which fee` becomes `Which fee is 4 euros a day`."""
        verb = self.verb
        if wh in ("Who", "What", "Who or what") and self.plural:
            verb = {"are": "is", "were": "was", "have": "has"}.get(verb) or words.third_of(verb)
        return finish([wh, verb, "not" if self.negative else "", self.rest, self.before, self.condition])

    @property
    def plain(self) -> str:
        """Subject, verb and rest in one line."""
        return " ".join(part for part in (self.subject, self.verb, "not" if self.negative else "", self.rest) if part)


def finish(parts: Sequence[str]) -> str:
    """A question of its parts: single spaces, a capital, a question mark; the reader's `you` becomes the asker's `I`."""
    text = re.sub(r"\s+", " ", " ".join(part.strip() for part in parts if part.strip()))
    text = asker(re.sub(r"\s+([,.;:])", r"\1", text).rstrip(" .,;:"))
    return text[:1].upper() + text[1:] + "?"


def asker(text: str) -> str:
    """`you must return your card` as the person who asks says it: `I must return my card`."""
    follows = "|".join(
        [*words.MODALS, "have", "do", "did", "had", "need", "want", "also", "lose", "find", "use", "leave"]
    )
    text = re.sub(r"\byourself\b", "myself", re.sub(r"\byour\b", "my", text))
    text = re.sub(r"\byours\b", "mine", text)
    text = re.sub(r"\byou are\b", "I am", re.sub(r"\bare you\b", "am I", text, flags=re.IGNORECASE))
    text = re.sub(r"\byou were\b", "I was", re.sub(r"\bwere you\b", "was I", text, flags=re.IGNORECASE))
    text = re.sub(
        r"\b(do|did|must|may|can|should|shall|will|if|when|that|once|unless|before|after|while) you\b",
        r"\1 I",
        text,
        flags=re.IGNORECASE,
    )
    text = re.sub(rf"\byou (?={follows}\b)", "I ", text)
    return re.sub(r"\byou\b", "me", text)
