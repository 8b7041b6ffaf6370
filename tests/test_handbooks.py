"""Invented handbooks: the same by seed, every held-out answer in the text, and no question in a miner's wording."""

from __future__ import annotations

import re
from random import Random
from typing import cast

import pytest
from recipes.handbooks import Handbook, Question, handbook
from recipes.invented_people import people

from addenda.core import registry
from addenda.exercises.exercise import Chunk, Mined


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
            if one.sort == "unanswerable":
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
    assert sorts == {"direct", "turned", "combined", "unanswerable"}
    assert sum(one.sort == "unanswerable" for one in handbook(0).questions) >= 20


def test_what_is_right_is_told_by_whole_words() -> None:
    one = Question("?", "", (("two", "2"), ("Vogt",)), "combined")
    assert one.right("2 keys, from Lena Vogt.")
    assert not one.right("12 keys, from Lena Vogt.")
    assert not one.right("2.50 euros, from Vogt")
    assert not one.right("2 keys")
    assert not Question("?", "", (), "unanswerable").right("anything")


def test_no_held_out_question_is_a_miners() -> None:
    for made in (handbook(0), handbook(1), people(10, 0)):
        there = chunks(made)
        held = {re.sub(r"\W+", " ", one.question.lower()).strip() for one in made.questions}
        mined = 0
        for name, method in registry.methods("exercise").items():
            built = registry.build("exercise", name, {})
            if issubclass(method, Mined):
                for chunk in there:
                    for one in cast("Mined", built).mine(chunk, there, Random(f"0 {chunk.id}")):
                        mined += 1
                        assert re.sub(r"\W+", " ", one.question.lower()).strip() not in held
        assert mined > 100
