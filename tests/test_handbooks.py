"""Invented handbooks: the same by seed, every held-out answer in the text, and no question in a miner's wording."""

from __future__ import annotations

import hashlib
import json
import re
from random import Random
from typing import cast

import pytest
from recipes.handbooks import PLAIN, PLAIN_VAIN, VAIN, Handbook, Question, handbook
from recipes.invented_people import EVERY, people

from addenda.core import registry
from addenda.exercises.exercise import Chunk, Mined

#: the text and the questions of handbooks 0 to 4 before there were plain ones
OLD = ("9a77454cefb99d17", "e1b6241e9c97a407", "3d1320cde2754be5", "096c0f9e1c3a4265", "522e6091c9fe7b14")


def chunks(made: Handbook) -> list[Chunk]:
    parts = made.text.split("\n## ")[1:]
    return [
        Chunk(f"{made.name}#{n}", made.name, (made.title, part.split("\n", 1)[0]), part.split("\n\n", 1)[1])
        for n, part in enumerate(parts)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_answers_stand_in_the_text(seed: int) -> None:
    for made in (handbook(seed), people(25, seed)):
        for one in made.questions:
            if one.sort in (VAIN, PLAIN_VAIN):
                assert not one.needed
            else:
                assert one.needed
                assert all(any(form.lower() in made.text.lower() for form in group) for group in one.needed), one
                assert one.right(one.answer) or one.sort == "turned", one
        assert "{" not in made.text + "".join(one.question + one.answer for one in made.questions)
    assert 1300 < len(handbook(seed).text.split()) < 1500


def test_the_same_by_seed_and_another_by_another() -> None:
    assert handbook(3) == handbook(3)
    assert people(30, 1) == people(30, 1)
    assert len({handbook(seed).text for seed in range(10)}) == 10
    sorts = {one.sort for one in handbook(0).questions}
    assert sorts == {"direct", "turned", "combined", VAIN, PLAIN, PLAIN_VAIN}
    assert sum(one.sort == "unanswerable" for one in handbook(0).questions) >= 20


@pytest.mark.parametrize("seed", range(10))
def test_plain_questions_are_answered_by_their_own_section(seed: int) -> None:
    made = handbook(seed, sections=14)
    sections = made.text.split("\n## ")[1:]
    plain = [one for one in made.questions if one.sort == PLAIN]
    assert len(plain) == 6 * len(sections) == 84
    for at, one in enumerate(plain):
        assert one.right(sections[at // 6]), one
        assert one.right(one.answer), one
    assert len({one.question for one in made.questions}) == len(made.questions)


@pytest.mark.parametrize(("count", "seed"), [(10, 0), (25, 0), (25, 1), (100, 2)])
def test_the_right_one_of_ten_answers_is_among_them_once(count: int, seed: int) -> None:
    made = people(count, seed)
    told = [one for one in made.questions if one.needed]
    assert len(told) == 5 * count
    for at, one in enumerate(told):
        assert len(set(one.options)) == 10
        assert [option for option in one.options if one.right(option)] == [one.options[0]]
        if count >= 25:  # what is wrong is told of others
            others = "\n## ".join(part for n, part in enumerate(made.text.split("\n## ")[1:]) if n != at // 5)
            assert one.options[0] == one.answer
            for option in one.options[1:]:
                facts = [f" {fact}" for facts in EVERY.values() for fact in facts]
                wrong = [fact for fact in facts if fact in option and fact not in one.answer]
                assert max(wrong, key=len) in others
    assert not any(one.options for one in made.questions if not one.needed)
    assert not any(one.options for one in handbook(seed).questions)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_asked_plainly_in_vain_is_of_sections_that_are_not_told(seed: int) -> None:
    every = {one.question for one in handbook(seed, sections=14).questions if one.sort == PLAIN}
    asked = {
        sort: [one.question for one in handbook(seed).questions if one.sort == sort] for sort in (PLAIN, PLAIN_VAIN)
    }
    assert (len(asked[PLAIN]), len(asked[PLAIN_VAIN])) == (72, 12)
    assert {*asked[PLAIN], *asked[PLAIN_VAIN]} == every


def test_the_questions_that_records_were_made_with_are_as_they_were() -> None:
    """Committed records count them by sort, and hold what was said to each in this order."""
    for seed, digest in enumerate(OLD):
        made = handbook(seed)
        old = [one for one in made.questions if one.sort not in (PLAIN, PLAIN_VAIN)]
        assert list(made.questions[: len(old)]) == old
        facts = [made.text, [[one.question, one.answer, one.needed, one.sort] for one in old]]
        assert hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:16] == digest


def test_what_is_right_is_told_by_whole_words() -> None:
    one = Question("?", "", (("two", "2"), ("Vogt",)), "combined")
    assert one.right("2 keys, from Lena Vogt.")
    assert not one.right("12 keys, from Lena Vogt.")
    assert not one.right("2.50 euros, from Vogt")
    assert not one.right("2 keys")
    assert not Question("?", "", (), "unanswerable").right("anything")


def test_no_held_out_question_is_a_miners() -> None:
    """Plain questions are put as anybody would, so some few are a miner's too."""
    for made in (handbook(0), handbook(1), people(10, 0)):
        there = chunks(made)
        held = {_words(one.question) for one in made.questions if one.sort != PLAIN}
        plain = {_words(one.question) for one in made.questions if one.sort == PLAIN}
        mined: list[str] = []
        for name, method in registry.methods("exercise").items():
            built = registry.build("exercise", name, {})
            if issubclass(method, Mined):
                for chunk in there:
                    mined += [
                        _words(one.question) for one in cast("Mined", built).mine(chunk, there, Random(f"0 {chunk.id}"))
                    ]
        assert len(mined) > 100
        assert not held.intersection(mined)
        assert len(plain.intersection(mined)) <= len(plain) / 5


def _words(question: str) -> str:
    return re.sub(r"\W+", " ", question.lower()).strip()
