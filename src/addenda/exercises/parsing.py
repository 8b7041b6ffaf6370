"""Parsing: English sentences taken apart into clauses of subject, verb and rest, and only where that is safe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from addenda.exercises import spans, words
from addenda.exercises.clauses import Clause
from addenda.exercises.exercise import Chunk
from addenda.exercises.known import english, known
from addenda.exercises.reading import Sentence, read
from addenda.exercises.subjects import is_name, is_subject, many, name_of, small

_LINKS = (
    r"^(?:However|In addition|Additionally|Also|Moreover|Furthermore|For example|For instance|Therefore|Thus|Hence|As a result|"
    r"Consequently|In fact|Indeed|Of course|In general|Generally|Typically|Usually|Finally|Note that|Please note that|"
    r"Again|First|Second|Third|Next|Then|Overall|Still|Today|Now|Specifically|Actually|In contrast|By contrast"
    r"|Nevertheless|Likewise|Similarly|In other words|That is|Instead|And|But),? "
)
_PREPOSED = "In|On|At|From|After|Before|During|By|For|Since|Until|Within|Outside|With|Without|Between|Under|Throughout"
_OPENING = rf"^((?:{_PREPOSED}|Up to) [^,;:]{{2,60}}), "
_BARE_OPENING = (
    r"^((?:In|On|At|From|After|Before|During|Since|Until|Up to) (?:(?:the|a|each|every) )?[^\W_]+(?: [^\W_]+){0,2}?) "
    r"(?=(?:the|a|an|every|each|you|we|no) [a-z])"
)
_IF = r"^((?:If|When|Once|Unless|As soon as|Whenever|Before|After) [^;:]{5,120}?), (?:then )?(?=[^\W\d_])"
_END_IF = r"^(.{10,}?),? ((?:if|unless|once|as soon as) [^,;]{8,})$"
_TAIL = r",? (?:because|since(?! \d)|so that) .*$|, (?:although|though|while|whereas|which|where|as|who) .*$"
_ASIDE = r"^([A-Z][^,]{2,60}), (?:[^,]{3,60}), (?=[a-z])"
#: a second statement that nothing is made of
_PRONOUN = (
    r"(?:it|they|he|she|its|their|his|her|each|the \w+ one) (?:\w+ ){0,3}?(?:is|are|was|were|has|have|must|may|can|\w+s)\b"
    r"|[A-Z]\w+ \w+ly \w+ed\b"
)
_ANOTHER = (
    r"(?:it|they|he|she|its|their|his|her|each|the rest|neither|nobody|none|both|one|the \w+ one|\w+ \w+) "
    r"(?:\w+ ){0,3}?(?:is|are|was|were|does|do|has|have|must|may|can|cannot)\b"
    r"|(?:[A-Z]\w+|(?:the|an?) (?:\w+ ){1,3}?)(?: ?\w+ly)? ?\w+ed\b"
)
_CONTRACTED = {
    "can't": "cannot",
    "won't": "will not",
    "n't": " not",
    "can’t": "cannot",
    "won’t": "will not",
    "n’t": " not",
}


def clauses(chunk: Chunk, others: Sequence[Chunk]) -> tuple[Clause, ...]:
    """The clauses of a chunk's sentences, those that can be asked about: none that points to what another sentence says."""
    all_of = known(chunk, others)
    if (chunk, "clauses") not in all_of.kept:
        sentences = named_here(chunk, others) if english(chunk, others) else ()
        all_of.kept[chunk, "clauses"] = tuple(
            clause for sentence in sentences for clause in clauses_of(sentence, all_of.middles)
        )
    return all_of.kept[chunk, "clauses"]


def named_here(chunk: Chunk, others: Sequence[Chunk]) -> list[Sentence]:
    """A chunk's sentences; a first `He`, `It` or `They` becomes what the sentence before is about, where that is plain."""
    all_of = known(chunk, others)
    if (chunk, "named") not in all_of.kept:
        all_of.kept[chunk, "named"] = list(_named(chunk, all_of.middles))
    return all_of.kept[chunk, "named"]


def _named(chunk: Chunk, seen: frozenset[str]) -> Iterator[Sentence]:
    person = topic = ""
    paragraph = -1
    for sentence in read(chunk).sentences:
        if sentence.paragraph != paragraph or sentence.item:
            person, topic, paragraph = "", "", sentence.paragraph
        text = re.sub(_LINKS, "", sentence.text)
        text = text[:1].upper() + text[1:]
        if person and (match := re.match(r"(He|She)\b|(His|Her) (?=[a-z])", text)):
            text = (person if match[1] else f"{person}'s ") + text[match.end() :]
        elif topic and (match := re.match(r"(It|They) (?=[a-z])", text)):
            text = f"{topic} {text[match.end() :]}"
        names = [span.text for span in spans.spans(text) if span.sort == "name" and spans.is_person(span.text)]
        if names:
            person = names[0] if len(set(names)) == 1 and text.startswith(names[0]) and person in ("", names[0]) else ""
        made = replace(sentence, text=text)
        topic = topic_of(made, seen)
        yield made


def topic_of(sentence: Sentence, seen: frozenset[str]) -> str:
    """What an `It` or `They` at the start of the next sentence means; empty where it might mean two things.

    That is the subject, where what is said of it names no other thing but after a preposition.
    """
    found = list(clauses_of(sentence, seen))
    if not found or found[0].condition or spans.is_person(found[0].subject) or found[0].subject in ("you", "we", "I"):
        return ""
    subject, rest = found[0].subject, f" {found[0].rest}"
    free = re.sub(rf" (?:{'|'.join(words.PREPOSITIONS)}) (?:the|an?|its|their|each|every) ", " ", rest)
    free = re.sub(r" (?:an?|each|every) (?:year|month|week|day|time|hour)s?\b", "", free)
    if re.search(r" (?:the|an?|its|this|each|every) \w", free) or (
        many(subject.split()) and re.search(r"[a-z]{3,}s\b", free)
    ):
        return ""
    return subject[:1].upper() + subject[1:]


def clauses_in(sentence: Sentence, chunk: Chunk, others: Sequence[Chunk]) -> list[Clause]:
    """The clauses of one sentence of this chunk."""
    return list(clauses_of(sentence, known(chunk, others).middles))


def clauses_of(sentence: Sentence, seen: frozenset[str] = frozenset()) -> Iterator[Clause]:
    """A sentence's clauses; `seen` are words within sentences, by which a name is told from a word with a capital.

    None where the sentence is a question or an order, points elsewhere, or is built in another way than subject, verb, rest.
    """
    text = sentence.text
    if not text.endswith(".") or re.search(r"[\"“”‘?!…]|\.\s", text) or not 3 <= len(text.split()) <= 45:
        return
    for short, long in _CONTRACTED.items():
        text = text.replace(short, long)
    text = re.sub(r" \([^()]*\)", "", text).rstrip(".")
    for at, part in enumerate(re.split(r"; |: (?=[a-z])", text)):
        part = part[:1].upper() + part[1:]
        if at and re.match(r"(?:The first|The second|The other|One|Others?|Some|There) ", part):
            return
        for clause in _of_part(part, seen):
            if at == 0 and len(clause.rest.split()) < 3 and ": " in text:  # `Monday is the exception: ...`
                return
            yield replace(clause, said=sentence.text, item=sentence.item)


def _of_part(text: str, seen: frozenset[str]) -> Iterator[Clause]:
    condition = before = ""
    if match := re.match(_IF, text):
        condition, text = small(match[1], seen), text[match.end() :]
    elif match := re.match(_OPENING, text) or re.match(_BARE_OPENING, text):
        before, text = small(match[1], seen), text[match.end() :]
    elif match := re.match(_END_IF, text):
        condition, text = match[2], match[1]
    if points(condition) or points(before):
        return
    inside = bool(condition or before)
    for made in _joined(_capital(text), seen):
        if not points(made.subject) and (inside or not points(made.rest)):
            yield replace(made, before=before, condition=condition)


def points(text: str, *, own: bool = False) -> bool:
    """Whether a text points to another sentence: `this`, `it`, `the following`; `their` and `its` may be of the same.

    With `own` the text is the second half of a sentence, whose `it` and `them` are in the first.
    """
    text = re.sub(r"\b(?:it|them|him|other|others|then|too|also)\b", "", text) if own else text
    return bool(
        re.search(
            r"\b(?:this|these|those|such|here|there|following(?! (?:year|day|month|week|morning|season))"
            r"|(?:above|below)(?! [\w€$])|latter|former|it|them|him|hers?|theirs|the same|as follows"
            r"|another|others|the other|too|also|instead|however|therefore|thus|then)\b",
            text.lower(),
        )
        or re.search(r"\bthat(?= (?:is|are|was|were|means)\b)(?<!\w that)", text.lower())
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _joined(text: str, seen: frozenset[str]) -> Iterator[Clause]:
    """The clauses of a text that `and` or `but` may join: `A pass costs 40 euros and is valid for three months`."""
    aside = re.match(_ASIDE, text)
    if (
        aside
        and (whole := _parsed(f"{aside[1]} {text[aside.end() :]}", seen))
        and not text[aside.end() :].startswith(("and ", "or "))
    ):
        text = f"{aside[1]} {text[aside.end() :]}"
    for link in re.finditer(r",? (?:and|but) |, (?=[a-z]+s )", text):
        first, last = text[: link.start()], text[link.end() :]
        whole = _parsed(first, seen)
        if whole is None or _open(first):
            continue
        if not re.search(r"\b(?:who|which|that|where|if|when)\b", first) and (second := _of_same(whole, last, seen)):
            yield _cut(whole)
            yield from second
            return
        second = _parsed(_capital(last), seen)
        if second and not re.match(r"(?:not|only) ", last) and second.subject.split()[0] not in words.POINTING:
            yield _cut(whole)
            yield from _joined(_capital(last), seen)
            return
        if re.match(_ANOTHER if "," in link[0] else _PRONOUN, last):
            yield _cut(whole)
            return
    made = _parsed(text, seen)
    if made:
        yield _cut(made)
        name = re.search(rf" ({spans.NAME}), who (.+)$", text)
        if name and spans.is_person(name[1]) and (second := _parsed(f"{name[1]} {name[2]}", seen)):
            yield _cut(second)


def _open(text: str) -> bool:
    """Whether a text breaks off where something must follow: `between nine`, `both plates`."""
    last = text.split()[-1].rstrip(",").lower() if text.split() else ""
    verb = words.is_base(last) or last in words.ORDERS  # `may complete and may record any survey`
    return verb or bool(re.search(r"\b(?:between|both|either|neither|not only)\b", text.lower()))


def _of_same(first: Clause, rest: str, seen: frozenset[str]) -> list[Clause]:
    """Further verbs of a clause's subject; none where what follows `and` is not a verb of it."""
    start = rest.split()[0] if rest.split() else ""
    finite = start in words.MODALS | {"has", "have"} or (
        start in words.BE and (start in ("are", "were")) == first.plural
    )
    own = (
        (words.third(start) and first.do == "does")
        or (words.is_base(start) and (first.do == "do" or first.verb in ("are", "have")))
        or (words.past(start) and first.do == "did")
    )
    third = words.third(start) and not first.plural and first.verb not in words.MODALS
    if finite or own or third:
        return [
            replace(made, proper=first.proper, subject=first.subject)
            for made in _joined(f"{_capital(first.subject)} {rest}", seen)
        ]
    if (
        first.verb in words.MODALS
        and (words.is_base(start) or start == "be" or start == "not")
        and len(rest.split()) > 1
    ):
        negative = start == "not"
        return [replace(first, rest=rest.removeprefix("not "), negative=negative or first.negative)]
    return []


def _cut(clause: Clause) -> Clause:
    """A clause without what only explains it."""
    rest = re.sub(_TAIL, "", clause.rest) if not re.match(r"(?:as|so) ", clause.rest) else clause.rest
    rest = re.sub(r" and \w+ (?:in|into|to|at|for|from) (?:the|an?) [\w ]+ ones?$", "", rest)
    return replace(clause, rest=rest) if rest and rest.split()[-1] not in words.PREPOSITIONS else clause


def _parsed(text: str, seen: frozenset[str]) -> Clause | None:
    """Subject, verb and rest by the first verb that can be the sentence's."""
    text = re.sub(r"^Only (?=[A-Z])", "", text)
    listed = re.match(r"^((?:[A-Z][a-z]+)(?:, [a-z]+)+,? and [a-z]+) (?=[a-z])", text)
    parts = [listed[1], *text[listed.end() :].split()] if listed else text.split()
    if not parts:
        return None
    first = parts[0].lower()
    if first in (words.POINTING | words.PREPOSITIONS | words.SUBORDINATE | words.ADVERBS) - {"you", "we"}:
        return None
    if first in words.NOBODY or first in ("please", "and", "or", "but"):
        return None
    if first in words.ORDERS and (len(parts) < 2 or not _is_verb(parts[1], True)) and first + "s" not in seen:
        return None
    for at in range(1, min(len(parts), 16)):
        word, subject = parts[at].rstrip(","), " ".join(parts[:at]).split()
        if (parts[at - 1].endswith(",") and not listed) or word != parts[at]:
            return None
        if word.lower() in words.SUBORDINATE - {"than", "as"}:
            return _with_relative(parts, at, seen) if word in ("who", "that", "whose", "which") else None
        if not _is_verb(word, many(subject)) or not is_subject(subject):
            continue
        made = _with_verb(" ".join(subject), parts, at)
        if made:
            return replace(made, subject=small(made.subject, seen), proper=name_of(made.subject, seen))
    return None


def _with_relative(parts: Sequence[str], at: int, seen: frozenset[str]) -> Clause | None:
    """A clause whose subject has one of its own: `An item that comes back late costs 3.40 euros`."""
    front = list(parts[:at])
    if not is_subject(front) or front[-1].endswith(",") or not at + 3 < len(parts):
        return None
    near = at + (4 if parts[at] == "whose" else 3 if parts[at + 1] in words.ADVERBS else 2)
    finite = (n for n in range(at + 1, min(near, len(parts))) if _is_verb(parts[n], True) or words.third(parts[n]))
    own = next(finite, 0)
    for n in range(own + 2, min(len(parts) - 1, own + 14)) if own else ():
        word, last = parts[n], parts[n - 1].lower()
        if last.endswith(",") or word in ("and", "or", "but"):
            return None
        agrees = word in (words.BE | words.MODALS | {"has", "have"}) or (
            words.is_base(word) if many(front) else bool(words.third(word))
        )
        plural_be = word in ("are", "were", "have")
        if not agrees or last in words.MODALS | words.DETERMINERS | words.PREPOSITIONS | {"to", "not", "and", "or"}:
            continue
        if word in ("is", "was", "has", "are", "were", "have") and plural_be != many(front):
            continue
        made = _with_verb(" ".join(parts[:n]), parts, n, front)
        if made:
            return replace(
                made, subject=small(made.subject, seen), proper=is_name(parts[0], " ".join(parts[1:n]), seen)
            )
    return None


def _is_verb(word: str, plural: bool) -> bool:
    if word in words.BE | words.MODALS | {"cannot", "has", "had"}:
        return True
    return bool(words.is_base(word) if plural else words.third(word)) or (bool(words.past(word)))


def _with_verb(subject: str, parts: Sequence[str], at: int, front: Sequence[str] = ()) -> Clause | None:
    """The clause with the verb at this place; None where it is not the sentence's verb after all."""
    verb, rest = parts[at], list(parts[at + 1 :])
    negative = False
    if verb == "cannot":
        verb, negative = "can", True
    elif rest and rest[0] in ("not", "never") and verb in words.BE | words.MODALS | {"has", "have", "had"}:
        negative, rest = True, rest[1:]
    if not rest:
        return None
    if verb in words.BE | words.MODALS:
        return Clause("", subject, verb, " ".join(rest), negative=negative)
    if verb in ("has", "have", "had") and (
        negative or re.search(r"(?:ed|en|own|un|one|ade|ept|aid|old|ought)$", rest[0])
    ):
        return Clause("", subject, verb, " ".join(rest), negative=negative) if rest[0] != "to" else None
    return _with_do(subject, verb, rest, many(front or subject.split()))


def _with_do(subject: str, verb: str, rest: Sequence[str], plural: bool) -> Clause | None:
    """A clause of a verb that stands alone: a noun of the same form has `of`, or a verb of its own, after it."""
    later = {word.rstrip(",") for word in rest}
    next_is_verb = _is_verb(rest[0], True) and rest[0] not in ("work", "study")
    if rest[0].lower() in ("of", "and", "or", "not", "which", "who") or next_is_verb:
        return None
    start = subject.split()[0].lower()
    base = words.third(verb) if not plural else verb if words.is_base(verb) else None
    if base:
        bare = start not in words.DETERMINERS and not subject[:1].isupper()
        finite = later & (words.BE | words.MODALS) and not later & words.SUBORDINATE
        if bare or (finite and "and" not in later):
            return None
        return Clause("", subject, verb, " ".join(rest), base=base, do="do" if plural else "does")
    base = words.past(verb)
    if base and not later & (words.BE | words.MODALS) and rest[0].lower() not in ("by",):
        return Clause("", subject, verb, " ".join(rest), base=base, do="did")
    return None
