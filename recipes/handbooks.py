"""Handbooks that nobody has read: seeded documents of rules, prices, names, codes and exceptions, with held-out questions.

    python -m recipes.handbooks --seed 0 --out FOLDER      writes handbook-0.md, people-0.md, and their .jsonl

A handbook has twelve of fourteen sections, some 1,350 words. Questions are asked directly, turned round and in combination, each in
words of its own, which no miner has; what it does not answer are those of sections that were left out, and some on what no section tells of.
An answer is right where of each group of `needed` one form stands in it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.handbook_sections import SECTIONS, UNTOLD, Draw, Section
from recipes.handbook_worlds import WORLDS

SECTIONS_A_HANDBOOK = 12


@dataclass(frozen=True)
class Question:
    """A held-out question: `sort` is direct, turned, combined or unanswerable; `needed` is empty for the last."""

    question: str
    answer: str
    needed: tuple[tuple[str, ...], ...]
    sort: str

    def right(self, said: str) -> bool:
        """Whether an answer has of each needed group one form, as whole words."""
        low = re.sub(r"\s+", " ", said.lower())
        return bool(self.needed) and all(
            any(re.search(rf"(?<![\w.,]){re.escape(form.lower())}(?![\w]|[.,]\d)", low) for form in group)
            for group in self.needed
        )


@dataclass(frozen=True)
class Handbook:
    """A document in Markdown and what is asked of it."""

    name: str
    title: str
    text: str
    questions: tuple[Question, ...]


def handbook(seed: int, sections: int = SECTIONS_A_HANDBOOK) -> Handbook:
    """The handbook of a seed; the first `sections` of the shuffled ones are told, the others are asked in vain."""
    world = WORLDS[seed % len(WORLDS)]
    order = list(SECTIONS)
    random.Random(f"sections {seed}").shuffle(order)
    told = [section for section in SECTIONS if section in order[:sections]]
    draw = Draw(random.Random(f"handbook {seed}"), world)
    made = {section: section(draw) for section in SECTIONS}
    title = f"{world.org}: {world.book}"
    text = "\n\n".join([f"# {title}", *(f"## {made[one].heading}\n\n{made[one].text}" for one in told)]) + "\n"
    return Handbook(f"handbook-{seed}.md", title, text, tuple(_asked(made, told)))


def _asked(made: dict[Callable[[Draw], Section], Section], told: list[Callable[[Draw], Section]]) -> Iterator[Question]:
    for maker, section in made.items():
        for sort, question, answer, needed in section.asked:
            if maker in told:
                yield Question(question, answer, needed, sort)
            elif sort == "direct":
                yield Question(question, "", (), "unanswerable")
    yield from (Question(question, "", (), "unanswerable") for question in UNTOLD)
    for one, two in zip(told[::2], told[1::2], strict=False):  # two sections in one question
        first, second = (next(asked for asked in made[maker].asked if asked[0] == "direct") for maker in (one, two))
        joined = f"{first[1]} And another thing: {second[1][:1].lower()}{second[1][1:]}"
        yield Question(joined, f"{first[2]} {second[2]}", first[3] + second[3], "combined")


GIVEN = (
    "Aldo Berit Casimir Dagny Edda Florin Greta Hakon Ilse Jarmo Katrin Leif Mirela Nuno Oda Pavel Rasmus Signe Tomas Ulla Viggo Wanda"
    " Ximena Yannis Zofia Amina Bruno Celeste Dmitri Elin"
).split()
FAMILY = (
    "Aasland Brenner Cordova Dahlke Ekholm Farkas Grabowski Hollis Iversen Janssens Kowal Lindgren Maurer Novak Oduya Petrescu Quist"
    " Rautio Sandoval Thorsen Ubeda Vesely Wexler Yilmaz Zander Albers Boateng Castell Durand Engel"
).split()
TOWNS = (
    "Odenfurt Marlhaven Kestrelby Brookmere Tarnau Velmond Skarholt Ashquay Lindemar Corvale Petersby Wolmar Aldersea Haverby Monfell"
).split()
JOBS = [
    "glazier", "beekeeper", "cartographer", "piano tuner", "bookbinder", "ferry pilot", "optician", "stonemason", "translator",
    "locksmith", "midwife", "land surveyor", "pastry cook", "clockmaker", "radio engineer",
]  # fmt: skip
FIRMS = [
    "Northgate Optics", "Brill & Sons", "the Wolmar Ferry Line", "Studio Halden", "the Tarnau Mint", "Quayside Press", "Ostrel Mills",
    "the Corvale Observatory", "Dunmore Seeds", "Velmond Radio", "the Petersby Archive", "Hartig Clocks",
]  # fmt: skip
MONTHS = "January February March April May June July August September October November December".split()


def people(count: int = 25, seed: int = 0) -> Handbook:
    """A document on so many people who do not exist, five facts each, told once; with questions directly and turned round."""
    draw = random.Random(f"people {seed}")
    names = draw.sample([f"{given} {family}" for given in GIVEN for family in FAMILY], count + max(5, count // 5))
    parts: list[str] = ["# The people of the Lantern Society"]
    asked: list[Question] = []
    firms = Counted(draw, FIRMS)
    for name in names[:count]:
        town, home = draw.sample(TOWNS, 2)
        job, firm = draw.choice(JOBS), firms.next()
        day, month, year = draw.randint(1, 28), draw.choice(MONTHS), draw.randint(1948, 1999)
        told = [
            f"{name} was born on {day} {month} {year} in {town}.",
            f"{name} is {'an' if job[0] in 'aeiou' else 'a'} {job} by trade, and works for {firm}.",
            f"{name} has lived in {home} for {draw.randint(3, 30)} years.",
        ]
        parts.append(f"## {name}\n\n{' '.join([told[0], *draw.sample(told[1:], 2)])}")
        bare = firm.removeprefix("the ")
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
    asked += [
        Question(f"In what town did {name} come into the world?", "", (), "unanswerable") for name in names[count:]
    ]
    return Handbook(f"people-{seed}.md", "The people of the Lantern Society", "\n\n".join(parts) + "\n", tuple(asked))


class Counted:
    """Draws from a list so that each is drawn as often as the others."""

    def __init__(self, draw: random.Random, of: list[str]) -> None:
        self.draw, self.of, self.left = draw, of, list[str]()

    def next(self) -> str:
        if not self.left:
            self.left = self.draw.sample(self.of, len(self.of))
        return self.left.pop()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sections", type=int, default=SECTIONS_A_HANDBOOK)
    parser.add_argument("--people", type=int, default=25)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for made in (handbook(given.seed, given.sections), people(given.people, given.seed)):
        (given.out / made.name).write_text(made.text, encoding="utf-8")
        lines = [json.dumps(asdict(question), ensure_ascii=False) for question in made.questions]
        (given.out / made.name).with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{made.name}: {len(made.text.split())} words, {len(made.questions)} questions")


if __name__ == "__main__":
    main()
