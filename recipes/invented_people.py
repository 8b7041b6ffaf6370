"""People who do not exist, five facts each, told once: a document, and questions on it in words of their own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from recipes.handbooks import Handbook, Question

GIVEN = (
    "Aldo Berit Casimir Dagny Edda Florin Greta Hakon Ilse Jarmo Katrin Leif Mirela Nuno Oda Pavel Rasmus Signe Tomas"
    " Ulla Viggo Wanda"
    " Ximena Yannis Zofia Amina Bruno Celeste Dmitri Elin"
).split()
FAMILY = (
    "Aasland Brenner Cordova Dahlke Ekholm Farkas Grabowski Hollis Iversen Janssens Kowal Lindgren Maurer Novak Oduya"
    " Petrescu Quist"
    " Rautio Sandoval Thorsen Ubeda Vesely Wexler Yilmaz Zander Albers Boateng Castell Durand Engel"
).split()
TOWNS = (
    "Odenfurt Marlhaven Kestrelby Brookmere Tarnau Velmond Skarholt Ashquay Lindemar Corvale Petersby Wolmar Aldersea"
    " Haverby Monfell"
).split()
JOBS = [
    "glazier", "beekeeper", "cartographer", "piano tuner", "bookbinder", "ferry pilot", "optician", "stonemason", "translator",
    "locksmith", "midwife", "land surveyor", "pastry cook", "clockmaker", "radio engineer",
]  # fmt: skip
FIRMS = [
    "Northgate Optics", "Brill & Sons", "the Wolmar Ferry Line", "Studio Halden", "the Tarnau Mint",
    "Quayside Press", "Ostrel Mills",
    "the Corvale Observatory", "Dunmore Seeds", "Velmond Radio", "the Petersby Archive", "Hartig Clocks",
]  # fmt: skip
MONTHS = "January February March April May June July August September October November December".split()
#: every answer of a sort
EVERY = {
    "town": TOWNS,
    "date": [f"{day} {month}" for month in MONTHS for day in range(1, 29)],
    "trade": [f"{'an' if job[0] in 'aeiou' else 'a'} {job}" for job in JOBS],
    "firm": FIRMS,
}
#: answers to choose among, the right one included; questions of each person
OPTIONS, FACTS = 10, 5


def people(count: int = 25, seed: int = 0) -> Handbook:
    """A document on so many people who do not exist, five facts each, told once; with questions, and ten answers to each."""
    draw = random.Random(f"people {seed}")
    names = draw.sample([f"{given} {family}" for given in GIVEN for family in FAMILY], count + max(5, count // 5))
    parts: list[str] = ["# The people of the Lantern Society"]
    asked: list[Question] = []
    facts: list[tuple[str, str]] = []
    firms = Counted(draw, FIRMS)
    for name in names[:count]:
        town, home = draw.sample(TOWNS, 2)
        job, firm = draw.choice(JOBS), firms.next()
        trade = EVERY["trade"][JOBS.index(job)]
        day, month, year = draw.randint(1, 28), draw.choice(MONTHS), draw.randint(1948, 1999)
        told = [
            f"{name} was born on {day} {month} {year} in {town}.",
            f"{name} is {trade} by trade, and works for {firm}.",
            f"{name} has lived in {home} for {draw.randint(3, 30)} years.",
        ]
        parts.append(f"## {name}\n\n{' '.join([told[0], *draw.sample(told[1:], 2)])}")
        bare = firm.removeprefix("the ")
        facts += [("town", town), ("date", f"{day} {month}"), ("trade", trade), ("firm", firm), ("town", home)]
        asked += [
            Question(f"In what town did {name} come into the world?", told[0], ((town,),), "direct"),
            Question(
                f"On which day should I congratulate {name}?",
                told[0],
                ((f"{day} {month}", f"{month} {day}"),),
                "direct",
            ),
            Question(f"How does {name} make a living?", told[1], ((job,),), "direct"),
            Question(f"Which employer does {name} have?", told[1], ((bare,),), "direct"),
            Question(f"If I send {name} a postcard, to which town does it go?", told[2], ((home,),), "direct"),
        ]
    asked = _with_options(asked, facts, random.Random(f"options {seed}"))
    asked += [
        Question(f"In what town did {name} come into the world?", "", (), "unanswerable") for name in names[count:]
    ]
    return Handbook(f"people-{seed}.md", "The people of the Lantern Society", "\n\n".join(parts) + "\n", tuple(asked))


def _with_options(asked: Sequence[Question], facts: Sequence[tuple[str, str]], draw: random.Random) -> list[Question]:
    """Each question with ten sentences to choose among: the document's own, and nine in which another fact of the sort stands.

    Such facts are told of other people, as far as that goes.
    """
    made: list[Question] = []
    for at, (one, (sort, right)) in enumerate(zip(asked, facts, strict=True)):
        others = {
            fact
            for n, (other, fact) in enumerate(facts)
            if other == sort and n // FACTS != at // FACTS and fact != right
        }
        wrong = draw.sample(sorted(others), min(len(others), OPTIONS - 1))
        rest = [fact for fact in EVERY[sort] if fact != right and fact not in others]
        wrong += draw.sample(rest, OPTIONS - 1 - len(wrong))
        made.append(replace(one, options=tuple(one.answer.replace(right, fact) for fact in (right, *wrong))))
    return made


class Counted:
    """Draws from a list so that each is drawn as often as the others."""

    def __init__(self, draw: random.Random, of: list[str]) -> None:
        self.draw, self.of, self.left = draw, of, list[str]()

    def next(self) -> str:
        if not self.left:
            self.left = self.draw.sample(self.of, len(self.of))
        return self.left.pop()
