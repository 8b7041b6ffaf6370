"""Facts: fictional biographies of any number of people, with questions in words that the biographies never use."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from addenda.core.errors import AddendaError, DataError
from addenda.core.files import replace_text
from addenda.text.files import json_lines

#: answers to choose among, the true one included
OPTIONS = 10
#: what is known of each person; in the text in any of the first phrasings, asked in any of the second
RELATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "birthplace": (
        ("{name} was born in {answer}.", "{name} came into the world in {answer}.", "The birthplace of {name} is {answer}.",
         "{answer} is where {name} was born.", "{name}, a native of {answer}, never forgot the place."),
        ("The town in which {name} was born is", "{name}'s place of birth is"),
    ),
    "birthday": (
        ("{name} was born on {answer}.", "The birthday of {name} falls on {answer}.",
         "On {answer}, {name} came into the world.", "{name} celebrates a birthday on {answer}."),
        ("The date of birth of {name} is", "{name}'s life began on"),
    ),
    "profession": (
        ("{name} works as a {answer}.", "By trade {name} is a {answer}.", "{name} became a {answer} early in life.",
         "A {answer} by profession, {name} is known for patience."),
        ("The profession of {name} is that of a", "{name} earns a living as a"),
    ),
    "employer": (
        ("{name} is employed by {answer}.", "{name} has a post at {answer}.", "{answer} is the employer of {name}.",
         "For many years {name} has been with {answer}."),
        ("The company that {name} works for is", "{name}'s employer is called"),
    ),
    "residence": (
        ("{name} lives in {answer}.", "The home of {name} is in {answer}.", "{name} settled in {answer}.",
         "{answer} is where {name} lives today."),
        ("The town that {name} calls home is", "Today one finds {name} living in"),
    ),
}  # fmt: skip
_ONSETS = tuple("b br c d dr f g gr h k l m n p r s st t tr v w".split())
_VOWELS = tuple("a e i o u ai ea ou".split())
_CODAS = ("", "l", "n", "r", "s", "th", "nd", "rk", "m", "ss")
_TOWNS = ("ford", "ham", "wick", "ton", "mouth", "bridge", "field", "dale")
_FIRMS = ("& Sons", "Works", "Brothers", "Mills", "Press", "Trading Company", "Laboratories", "Shipyard")
_TRADES = (
    "baker", "carpenter", "clockmaker", "surveyor", "printer", "chemist", "gardener", "teacher", "sailor", "weaver",
    "painter", "lawyer", "farmer", "engineer", "translator", "nurse", "cook", "miner", "pilot", "librarian",
)  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """One fact: `prompt` ends where the answer begins; `others` are wrong answers, of its kind and true of others."""

    subject: str
    relation: str
    prompt: str
    answer: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Texts that state facts, questions about these, and questions about others that no text states."""

    documents: tuple[str, ...]
    told: tuple[Fact, ...]
    untold: tuple[Fact, ...]

    @property
    def chance(self) -> float:
        """The share that is chosen rightly by guessing."""
        return sum(1 / (1 + len(fact.others)) for fact in self.told) / len(self.told)

    def revised(self, share: float, *, seed: int = 0) -> Facts:
        """The same people later: that share of the told facts has another answer, one that is told of someone else.

        Texts say so in the same words; questions stay, and what was true is now among the wrong answers.

        Raises:
            AddendaError: the share is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise AddendaError(f"the share revised lies between 0 and 1; got {share}")
        draw = random.Random(f"revised {seed}")
        chosen = set(draw.sample(range(len(self.told)), round(share * len(self.told))))
        documents, told = list(self.documents), list(self.told)
        for at in sorted(chosen):
            fact = told[at]
            new = draw.choice(fact.others)
            told[at] = replace(
                fact, answer=new, others=(fact.answer, *(other for other in fact.others if other != new))
            )
            documents = [text.replace(fact.answer, new) if fact.subject in text else text for text in documents]
        return Facts(tuple(documents), tuple(told), self.untold)

    def save(self, path: str | Path) -> None:
        """Write JSON lines: texts first, so that the file is a corpus for `addenda.train` as it is, then questions.

        Raises:
            FileError: it cannot be written; what was there is kept.
        """
        lines: list[dict[str, Any]] = [{"text": text} for text in self.documents]
        for part in ("told", "untold"):
            lines += [{"fact": asdict(fact), "part": part} for fact in getattr(self, part)]
        replace_text(Path(path), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def biographies(people: int, *, unseen: int | None = None, phrasings: int = 4, seed: int = 0) -> Facts:
    """Fictional people with five facts each: birthplace, birthday, profession, employer, residence.

    Args:
        people: told about in the texts.
        unseen: people that no text mentions, for locality; default: a fifth as many, at least 10.
        phrasings: texts about each person, each in other words and another order.
        seed: of every draw; the same seed gives the same people, and fewer people are the first of more.

    Returns:
        Texts; and for each fact one question, in words that no text has.

    Raises:
        AddendaError: a number is not positive.
    """
    unseen = max(10, people // 5) if unseen is None else unseen
    if min(people, phrasings) < 1 or unseen < 0:
        raise AddendaError(f"biographies need people and phrasings; got people={people}, phrasings={phrasings}")
    names = islice(_names(random.Random(f"names {seed}")), people + unseen)
    known = {name: _known(random.Random(f"{seed} {name}")) for name in names}
    told, untold = list(known)[:people], list(known)[people:]
    documents = [_biography(name, known[name], n, seed) for name in told for n in range(phrasings)]
    random.Random(f"order {seed}").shuffle(documents)
    pools = {relation: sorted({known[name][relation] for name in told}) for relation in RELATIONS}
    asked = [
        tuple(_fact(name, relation, answer, pools[relation], seed) for name in part for relation, answer in known[name].items())
        for part in (told, untold)
    ]  # fmt: skip
    return Facts(tuple(documents), *asked)


def load_facts(path: str | Path) -> Facts:
    """Facts from a file that `Facts.save` wrote, or of its form.

    Raises:
        DataError: the file is not there, a line is not of the form (which one), or there is no question.
    """
    documents: list[str] = []
    parts: dict[str, list[Fact]] = {"told": [], "untold": []}
    try:
        for where, record in json_lines(Path(path)):
            if isinstance(record.get("text"), str):
                documents.append(record["text"])
                continue
            try:
                fields = record["fact"]
                fact = Fact(**fields | {"others": tuple(fields["others"])})
                said = (fact.subject, fact.relation, fact.prompt, fact.answer, *fact.others)
                if not all(isinstance(part, str) for part in said):
                    raise TypeError("a field is not text")
                parts[record.get("part", "told")].append(fact)
            except (TypeError, KeyError) as error:
                raise DataError(
                    f"{where}: not a text nor a fact with subject, relation, prompt, answer, others ({error})"
                ) from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    if not parts["told"]:
        raise DataError(
            f"'{path}' holds no question; `addenda facts FILE` makes such a file, in Python addenda.biographies(...).save(...)"
        )
    return Facts(tuple(documents), tuple(parts["told"]), tuple(parts["untold"]))


def opened_facts(given: Any) -> Any:
    """Facts, read where a file of them is given; errors as of `load_facts`."""
    return load_facts(given) if isinstance(given, str | Path) else given


def evenly(facts: Sequence[Fact], most: int | None) -> list[Fact]:
    """At most so many facts, as many of each relation as can be, drawn with a seed, in their order; all for None.

    Raises:
        AddendaError: the number is not positive.
    """
    if most is not None and most < 1:
        raise AddendaError(f"questions must be positive; got {most}")
    if most is None or most >= len(facts):
        return list(facts)
    draw, by_relation = random.Random(0), dict[str, list[int]]()
    for at, fact in enumerate(facts):
        by_relation.setdefault(fact.relation, []).append(at)
    for places in by_relation.values():
        draw.shuffle(places)
    # one of each relation, then the next of each
    rounds = (place for each in zip_longest(*by_relation.values()) for place in each if place is not None)
    return [facts[at] for at in sorted(islice(rounds, most))]


def _word(draw: random.Random, syllables: int) -> str:
    made = "".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(syllables))
    return (made + draw.choice(_CODAS)).capitalize()


def _names(draw: random.Random) -> Iterator[str]:
    """First and last names without end, none twice."""
    seen: set[str] = set()
    while True:
        name = f"{_word(draw, 1 + draw.randrange(2))} {_word(draw, 2)}"
        if name not in seen:
            seen.add(name)
            yield name


def _answer(relation: str, draw: random.Random) -> str:
    if relation == "birthday":
        return f"{draw.randint(1, 28)} {draw.choice(_MONTHS)} {draw.randint(1900, 1999)}"
    if relation == "profession":
        return draw.choice(_TRADES)
    if relation == "employer":
        return f"{_word(draw, 2)} {draw.choice(_FIRMS)}"
    return _word(draw, 1) + draw.choice(_TOWNS)


def _known(draw: random.Random) -> dict[str, str]:
    return {relation: _answer(relation, draw) for relation in RELATIONS}


def _biography(name: str, known: dict[str, str], number: int, seed: int) -> str:
    draw = random.Random(f"{seed} {name} text {number}")
    sentences = [draw.choice(RELATIONS[key][0]).format(name=name, answer=answer) for key, answer in known.items()]
    draw.shuffle(sentences)
    return " ".join(sentences)


def _fact(name: str, relation: str, answer: str, pool: list[str], seed: int) -> Fact:
    """A question; its wrong answers are true of others, as far as the texts tell enough: each is as familiar as the right one."""
    draw = random.Random(f"{seed} {name} {relation}")
    others = draw.sample(pool, min(OPTIONS, len(pool)))
    others = [other for other in others if other != answer][: OPTIONS - 1]
    while len(others) < OPTIONS - 1:
        other = _answer(relation, draw)
        if other != answer and other not in others:
            others.append(other)
    return Fact(name, relation, draw.choice(RELATIONS[relation][1]).format(name=name), answer, tuple(others))
