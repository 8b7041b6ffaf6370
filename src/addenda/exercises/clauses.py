"""An English sentence taken apart into subject, verb and rest, where that is safe; else nothing is made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from addenda.exercises import spans, words
from addenda.exercises.exercise import Chunk
from addenda.exercises.known import english, known
from addenda.exercises.reading import Sentence, read

_LINKS = (
    r"^(?:However|In addition|Additionally|Also|Moreover|Furthermore|For example|For instance|Therefore|Thus|Hence|As a result|"
    r"Consequently|In fact|Indeed|Of course|In general|Generally|Typically|Usually|Finally|Note that|Please note that|"
    r"Nevertheless|Likewise|Similarly|In other words|That is|Instead|And|But),? "
)
_OPENING = r"^((?:In|On|At|From|After|Before|During|By|For|Since|Until|Within|Outside|With|Without|Between|Under|Throughout) [^,;:]{2,60}), "
_IF = r"^((?:If|When|Once|Unless|As soon as|Whenever|Where) [^;:]{5,120}?), (?:then )?(?=[^\W\d_])"
_CONTRACTED = {
    "can't": "cannot",
    "won't": "will not",
    "n't": " not",
    "can’t": "cannot",
    "won’t": "will not",
    "n’t": " not",
}


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
        front = re.split(rf" (?:{'|'.join(words.PREPOSITIONS)}) ", f"{self.subject} ")[0].split()
        return front[-1] if front else ""

    def ask(self, wh: str, rest: str | None = None) -> str:
        """A question that turns subject and verb round: `How much` to `How much is the fee for late return?`"""
        rest = self.rest if rest is None else rest
        turned = [self.do, self.subject, self.base] if self.do else [self.verb, self.subject]
        return finish([wh, *turned, "not" if self.negative else "", rest, self.before, self.condition])

    def of_subject(self, wh: str) -> str:
        """A question for the subject: `Which fee` to `Which fee is 4 euros a day?`"""
        verb = self.verb
        if wh in ("Who", "What") and self.plural:
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
    text = re.sub(r"\byou are\b", "I am", re.sub(r"\bare you\b", "am I", text))
    text = re.sub(r"\byou were\b", "I was", re.sub(r"\bwere you\b", "was I", text))
    text = re.sub(
        r"\b(do|did|must|may|can|should|shall|will|if|when|that|once|unless|before|after|while) you\b", r"\1 I", text
    )
    text = re.sub(rf"\byou (?={follows}\b)", "I ", text)
    return re.sub(r"\byou\b", "me", text)


def clauses(chunk: Chunk, others: Sequence[Chunk]) -> tuple[Clause, ...]:
    """The clauses of a chunk's sentences, those that can be asked about: none that points to what another sentence says."""
    all_of = known(chunk, others)
    if (chunk, "clauses") not in all_of.kept:
        made = (clause_of(sentence, all_of.middles) for sentence in named_here(chunk))
        all_of.kept[chunk, "clauses"] = tuple(one for one in made if one) if english(chunk, others) else ()
    return all_of.kept[chunk, "clauses"]


def clause_in(sentence: Sentence, chunk: Chunk, others: Sequence[Chunk]) -> Clause | None:
    """A sentence of this chunk as a clause."""
    return clause_of(sentence, known(chunk, others).middles)


def named_here(chunk: Chunk) -> Iterator[Sentence]:
    """A chunk's sentences; `He` and `She` become the name of the paragraph's only person, the rest stays."""
    person, paragraph = "", -1
    for sentence in read(chunk).sentences:
        if sentence.paragraph != paragraph:
            person, paragraph = "", sentence.paragraph
        text = re.sub(_LINKS, "", sentence.text)
        text = text[:1].upper() + text[1:]
        if person and (match := re.match(r"(He|She)\b|(His|Her) (?=[a-z])", text)):
            text = (person if match[1] else f"{person}'s ") + text[match.end() :]
        names = [span.text for span in spans.spans(text) if span.sort == "name" and spans.is_person(span.text)]
        if names:
            person = names[0] if len(set(names)) == 1 and text.startswith(names[0]) and person in ("", names[0]) else ""
        yield replace(sentence, text=text)


def clause_of(sentence: Sentence, seen: frozenset[str] = frozenset()) -> Clause | None:
    """A sentence as a clause; `seen` are words within sentences, by which a name is told from a word with a capital.

    None where the sentence is a question or an order, points elsewhere, or is built in another way than subject, verb, rest.
    """
    said = text = sentence.text
    if not text.endswith(".") or re.search(r"[\"“”‘;?!…]|\b[a-z]+:\s|\.\s", text) or not 4 <= len(text.split()) <= 45:
        return None
    for short, long in _CONTRACTED.items():
        text = text.replace(short, long)
    text = re.sub(r" \([^()]*\)", "", text).rstrip(".")
    condition = before = ""
    if match := re.match(_IF, text):
        condition, text = _small(match[1], seen), text[match.end() :]
    elif match := re.match(_OPENING, text):
        before, text = _small(match[1], seen), text[match.end() :]
    elif match := re.match(rf"^(.{{10,}}?),? ((?:if|unless|once|as soon as) [^,;]{{8,}})$", text):
        condition, text = match[2], match[1]
    if points(condition) or points(before):
        return None
    made = _parsed(text if text[:1].isupper() else text[:1].upper() + text[1:], seen)
    if made is None or points(made.subject) or (points(made.rest) and not (condition or before)):
        return None
    return replace(made, said=said, before=before, condition=condition, item=sentence.item)


def points(text: str, *, own: bool = False) -> bool:
    """Whether a text points to another sentence: `this`, `it`, `the following`; `their` and `its` may be of the same.

    With `own` the text is the second half of a sentence, whose `it` and `them` are in the first.
    """
    text = re.sub(r"\b(?:it|them|him|other|others|then|too|also)\b", "", text) if own else text
    return bool(
        re.search(
            r"\b(?:this|these|those|such|here|there|following|above|below|latter|former|it|them|him|hers?|theirs|the same|as follows"
            r"|another|others|the other|too|also|instead|however|therefore|thus|then)\b",
            text.lower(),
        )
        or re.search(r"\bthat(?= (?:is|are|was|were|means)\b)(?<!\w that)", text.lower())
    )


def _small(text: str, seen: frozenset[str]) -> str:
    """A sentence's beginning as it stands within one: a capital is kept where it is a name's."""
    first, _, rest = text.partition(" ")
    return text if is_name(first, rest, seen) else first[:1].lower() + text[1:]


def is_name(first: str, rest: str, seen: frozenset[str]) -> bool:
    """Whether the first word of a sentence has its capital as a name."""
    low = first.lower()
    if low in words.COMMON or low in words.ORDERS and low in seen:
        return first == "I"
    if first in seen:
        return low not in seen or first[1:] != first[1:].lower()
    if low in seen or re.search(r"(?:ing|tion|sion|ment|ness|ship|ance|ence|ities)s?$", low):
        return False
    if first[1:] != first[1:].lower() or any(mark.isdigit() for mark in first):
        return True
    return bool(re.match(r"[A-ZÀ-Þ0-9]", rest)) or not words.plural(first)


def _parsed(text: str, seen: frozenset[str]) -> Clause | None:
    """Subject, verb and rest by the first verb that can be the sentence's."""
    parts = text.split()
    first = parts[0].lower()
    if first in (words.POINTING | words.PREPOSITIONS | words.SUBORDINATE | words.ADVERBS) - {"you", "we"} or first in (
        "please",
        "and",
    ):
        return None
    if first in words.ORDERS and (len(parts) < 2 or not _is_verb(parts[1], True)) and first + "s" not in seen:
        return None
    for at in range(1, min(len(parts), 14)):
        word = parts[at].rstrip(",")
        if parts[at - 1].endswith(",") or word.lower() in words.SUBORDINATE or (word != parts[at] and at < len(parts)):
            return None
        if not _is_verb(word, _many(parts[:at])) or not _is_subject(parts[:at]):
            continue
        made = _with_verb(parts, at)
        if made is None:
            continue
        subject = _small(made.subject, seen)
        return replace(made, subject=subject, proper=is_name(parts[0], " ".join(parts[1:at]), seen))
    return None


def _many(subject: Sequence[str]) -> bool:
    """Whether a subject takes a verb of the plural."""
    if " ".join(subject).lower() in ("you", "we", "i"):
        return True
    front = re.split(rf" (?:{'|'.join(words.PREPOSITIONS)}) ", " ".join(subject))[0].split()
    if "and" in front and front[0].lower() not in ("each", "every"):
        return True
    if front[0].lower() in ("each", "every", "a", "an", "one", "no"):
        return False
    return words.plural(front[-1])


def _is_verb(word: str, many: bool) -> bool:
    if word in words.BE | words.MODALS | {"cannot", "has", "had"}:
        return True
    return bool(words.is_base(word) if many else words.third(word)) or (bool(words.past(word)))


def _is_subject(parts: Sequence[str]) -> bool:
    """Whether words can be a subject: they name something, end in it, and have no clause of their own."""
    low = [part.lower() for part in parts]
    if low == ["you"] or low == ["we"]:
        return True
    if (
        any(word in words.SUBORDINATE | words.MODALS | words.BE | {"not", "has", "have", "had"} for word in low)
        or len(parts) > 12
    ):
        return False
    if low[-1] in words.COMMON or low[0] in words.POINTING or not words.content(" ".join(parts)):
        return False
    if low[0].endswith(("ed", "neath")) or any(
        words.past(one) and two == "and" for one, two in zip(low, low[1:], strict=False)
    ):
        return False
    if low[-1].endswith("ly") or any(mark in part for part in parts for mark in "—–:("):
        return False
    return not (len(parts) > 1 and low[0] in words.ORDERS and low[1] in words.DETERMINERS)


def _with_verb(parts: Sequence[str], at: int) -> Clause | None:
    """The clause with the verb at this place; None where it is not the sentence's verb after all."""
    subject, verb, rest = " ".join(parts[:at]), parts[at], list(parts[at + 1 :])
    if not rest:
        return None
    negative = False
    if verb == "cannot":
        verb, negative = "can", True
    elif rest[0] in ("not", "never") and verb in words.BE | words.MODALS | {"has", "have", "had"}:
        negative, rest = True, rest[1:]
    if not rest:
        return None
    if verb in words.BE | words.MODALS:
        return Clause("", subject, verb, " ".join(rest), negative=negative)
    if verb in ("has", "have", "had") and (
        negative or re.search(r"(?:ed|en|own|un|one|ade|ept|aid|old|ought)$", rest[0])
    ):
        return Clause("", subject, verb, " ".join(rest), negative=negative) if rest[0] != "to" else None
    return _with_do(subject, verb, rest)


def _with_do(subject: str, verb: str, rest: Sequence[str]) -> Clause | None:
    """A clause of a verb that stands alone: a noun of the same form has `of`, or a verb of its own, after it."""
    later = {word.rstrip(",") for word in rest}
    if (
        rest[0].lower() in ("of", "and", "or", "not", "which", "who")
        or _is_verb(rest[0], True)
        and rest[0] not in ("work", "study")
    ):
        return None
    start = subject.split()[0].lower()
    many = _many(subject.split())
    base = words.third(verb) if not many else verb if words.is_base(verb) else None
    if base:
        bare = start not in words.DETERMINERS and not subject[:1].isupper()
        finite = later & (words.BE | words.MODALS) and not later & words.SUBORDINATE
        if bare or (finite and "and" not in later):
            return None
        return Clause("", subject, verb, " ".join(rest), base=base, do="do" if many else "does")
    base = words.past(verb)
    if base and not later & (words.BE | words.MODALS) and rest[0].lower() not in ("by",):
        return Clause("", subject, verb, " ".join(rest), base=base, do="did")
    return None
