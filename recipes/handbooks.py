"""Handbooks that nobody has read: seeded documents of rules, prices, names, codes and exceptions, with held-out questions.

    python -m recipes.handbooks --seed 0 --out FOLDER      writes handbook-0.md, people-0.md, and their .jsonl

A handbook has twelve of fourteen sections (handbook_sections.txt), some 1,400 words. Questions are asked directly, turned round
and in combination, each in words of its own, which no miner has; and plainly, as a colleague asks, mostly in the handbook's own.
What it does not answer are questions of the sections that were left out, and some on what no section tells of.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from recipes.handbook_worlds import WORLDS, Draw, Words

SECTIONS_A_HANDBOOK = 12
#: sorts of questions in the handbook's words, and of those that it does not answer
PLAIN, VAIN, PLAIN_VAIN = "plain", "unanswerable", "plain unanswerable"
_SECTIONS = Path(__file__).with_name("handbook_sections.txt")
_SLOT = re.compile(r"\{(\w+)(?:: ([^}]+))?\}")


@dataclass(frozen=True)
class Question:
    """A held-out question: `sort` is direct, turned, combined or plain, or it has no answer, and `needed` is empty: VAIN.

    `options` are answers to choose among, the right one first, where there are any.
    """

    question: str
    answer: str
    needed: tuple[tuple[str, ...], ...]
    sort: str
    options: tuple[str, ...] = ()

    def right(self, said: str) -> bool:
        """Whether an answer has of each needed group one form, as whole words; unanswerable ones have no right answer here."""
        low = re.sub(r"\s+", " ", said.lower())
        return bool(self.needed) and all(
            any(re.search(rf"(?<![\w.,:]){re.escape(form.lower())}(?!\w|[.,:]\d)", low) for form in group)
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
    """The handbook of a seed: of the shuffled sections so many are told, the others are asked in vain."""
    world, parts = WORLDS[seed % len(WORLDS)], _parts()
    order = random.Random(f"sections {seed}").sample(list(parts), len(parts))
    told = [heading for heading in parts if heading in order[:sections]]
    draw = Draw(random.Random(f"handbook {seed}"), world)
    made = {heading: _filled(text, asked, draw) for heading, (text, asked) in parts.items()}
    title = f"{world.org}: {world.book}"
    body = [f"## {heading}\n\n{made[heading][0]}" for heading in told]
    answered = [one for heading in told for one in made[heading][1]]
    untold = [one for heading in parts if heading not in told for one in made[heading][1]]
    both = list(_in_one([made[heading][1] for heading in told]))
    questions = (
        *(one for one in answered if one.sort != PLAIN),
        *both,
        *(_in_vain(one, VAIN) for one in untold if one.sort == "direct"),
        *_nowhere(),
        *(one for one in answered if one.sort == PLAIN),
        *(_in_vain(one, PLAIN_VAIN) for one in untold if one.sort == PLAIN),
    )
    return Handbook(f"handbook-{seed}.md", title, "\n\n".join([f"# {title}", *body]) + "\n", questions)


def _in_vain(one: Question, sort: str) -> Question:
    return Question(one.question, "", (), sort)


@cache
def _read() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Text and questions of each section, with their slots, by heading."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for part in re.split(r"^## ", _SECTIONS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        text, _, asked = rest.partition("\n? ")
        found[heading] = text.strip(), tuple(line.removeprefix("? ") for line in asked.strip().split("\n"))
    return found


def _parts() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {heading: part for heading, part in _read().items() if part[0]}


def _nowhere() -> list[Question]:
    asked = (line.split(" | ")[1] for text, lines in _read().values() if not text for line in lines)
    return [Question(question, "", (), VAIN) for question in asked]


def _filled(text: str, asked: tuple[str, ...], draw: Draw) -> tuple[str, list[Question]]:
    """A section with its draws, and its questions."""
    slots: dict[str, Words] = dict(draw.world_slots())

    def put(match: re.Match[str]) -> str:
        name, how = match.groups()
        if how:
            slots[name] = draw.drawn(how)
        return slots[name][0]

    told = _SLOT.sub(put, text)
    questions: list[Question] = []
    for line in asked:
        sort, question, answer, needed = (part.strip() for part in line.split(" | "))
        groups = tuple(
            tuple(dict.fromkeys(form for one in group.split("/") for form in _forms(one.strip(), slots)))
            for group in needed.split(" & ")
        )
        questions.append(Question(_SLOT.sub(put, question), _capital(_SLOT.sub(put, answer)), groups, sort))
    return told, questions


def _forms(one: str, slots: dict[str, Words]) -> Words:
    """What stands for one form: all forms of a slot alone, or the text with its slots."""
    alone = _SLOT.fullmatch(one)
    return slots[alone[1]] if alone else (_SLOT.sub(lambda match: slots[match[1]][0], one),)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _in_one(sections: list[list[Question]]) -> Iterator[Question]:
    """Two sections asked in one message."""
    for one, two in zip(sections[::2], sections[1::2], strict=False):
        first, second = (next(asked for asked in part if asked.sort == "direct") for part in (one, two))
        question = f"{first.question} And another thing: {second.question[:1].lower()}{second.question[1:]}"
        yield Question(question, f"{first.answer} {second.answer}", first.needed + second.needed, "combined")


def main() -> None:
    from recipes.invented_people import people

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
