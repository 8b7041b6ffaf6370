"""Questions that documents do not answer: none that they do, of many forms, no question twice, and enough of them."""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from typing import cast

import pytest

from addenda.core import registry
from addenda.exercises import untold, untold_near, words
from addenda.exercises.exercise import Chunk, Made, Mined
from addenda.exercises.known import Vocabulary, known
from addenda.exercises.near_misses import near_misses
from addenda.exercises.refusing import refusal
from addenda.exercises.untold_asked import ASKED
from addenda.exercises.untold_here import share
from addenda.measuring.asking.answers import refuses
from exercises.written_documents import chunks
from exercises.written_handbook import TEXT, TITLE

HANDBOOK = chunks(TEXT, "pottery.md", TITLE)
BARRED = {question.lower(): barred for barred, *questions in ASKED for question in questions}


def made(document: list[Chunk], seed: int = 0, kind: str = "unanswered") -> list[Made]:
    method = cast("Mined", registry.build("exercise", kind, {}))
    return [one for chunk in document for one in method.mine(chunk, document, Random(f"{seed} {chunk.id}"))]


def bare(question: str) -> str:
    """A question without what stands before it."""
    return re.sub(r'^(?:Kiln Lane Pottery: |(?:In|According to) "Kiln Lane Pottery"[:,] )', "", question).lower()


def stands(barred: str, text: str) -> list[str]:
    """Which of the words that tell of something stand in a text; asked otherwise than the exercise does it."""
    there = {part for word in words.words(text.lower()) for part in (word, *re.split(r"\W", word))}
    stems = {words.stem(word) for word in there}
    return [
        one
        for one in barred.split()
        if (any(word.startswith(one[:-1]) for word in there) if one.endswith("*") else words.stem(one) in stems)
    ]


def test_no_word_that_would_tell_of_it_stands_in_the_document() -> None:
    whole = "\n".join(chunk.read for chunk in HANDBOOK)
    asked = [one for seed in range(10) for one in made(HANDBOOK, seed) if bare(one.question) in BARRED]
    assert len(asked) > 150
    for one in asked:
        assert not stands(BARRED[bare(one.question)], whole), one.question


@pytest.mark.parametrize("entry", ASKED, ids=lambda entry: entry[0][:20])
def test_a_question_that_is_asked_anywhere_is_barred_by_its_own_words(entry: tuple[str, ...]) -> None:
    barred, *questions = entry
    assert questions
    for question in questions:
        assert stands(barred, question), question
        assert re.match(r"[A-Z].*\?$", question)


def test_the_banks_are_large_and_have_nothing_twice() -> None:
    questions = [question for _, *questions in ASKED for question in questions]
    assert len(questions) == len(set(questions)) > 200
    topics = untold.THINGS + untold.EVENTS
    assert len(topics) == len(set(topics)) > 100
    assert set(untold.ALIKE) <= set(topics)
    forms = [form for _, forms, _ in untold_near.SORTS for form, _ in forms]
    assert all(form.format("lamp").endswith("?") for form in forms)


TOLD = [
    ("Cars may be left behind the coach house.", r"\b[Pp]ark|\bcars?\b|garage"),
    ("The label printer stands upstairs.", "Where is the label printer|Is there a label printer|Where is the printer"),
    ("There is a minibus to the station on Sundays.", "shuttle|bus stops|railway"),
    ("The wet mop is painted blue.", "What colour is the wet mop"),
    ("Bram Costello is 54 years old.", "How old is Bram"),
    ("The insurer is Hartwell Mutual.", "insur"),
    ("A drone-free zone surrounds the yard.", r"\bdrone"),
]


@pytest.mark.parametrize(("sentence", "asked"), TOLD)
def test_what_a_document_tells_of_is_not_refused(sentence: str, asked: str) -> None:
    told = chunks(f"{TEXT}\n\n## More\n\n{sentence}\n", "pottery.md", TITLE)
    near = [one for chunk in told for one in near_misses(chunk, told, known(chunk, told))]
    anywhere = [
        one for chunk in told for pool in ("asked", "topics", "about") for one in share(known(chunk, told), chunk, pool)
    ]
    found = [one for one in anywhere + near if re.search(asked, one)]
    assert not found


def test_things_that_are_told_of_are_asked_for_something_else() -> None:
    near = [one for chunk in HANDBOOK for one in near_misses(chunk, HANDBOOK, known(chunk, HANDBOOK))]
    assert len(near) == len(set(near)) > 100
    assert {
        "Is Bram Costello married?",
        "How heavy is the wet mop?",
        "Which music is played at the winter fair?",
    } <= set(near)
    assert not [one for one in near if re.search(r"the (?:last|next|same) \w+", one) and "at the last" not in one]


def test_forms_are_varied() -> None:
    asked = [bare(one.question) for one in made(HANDBOOK)]
    starts = Counter(" ".join(question.split()[:2]) for question in asked)
    assert len(starts) > 30
    assert max(starts.values()) < 0.2 * len(asked)
    every = {start for seed in range(5) for start in (bare(one.question) for one in made(HANDBOOK, seed))}
    for start in (
        "is there",
        "may i",
        "can i",
        "how many",
        "who ",
        "which company",
        "when was",
        "where ",
        "i would like",
    ):
        assert any(question.startswith(start) for question in every), start


def test_no_question_is_asked_twice_and_one_seed_makes_one_set() -> None:
    for seed in range(3):
        asked = [bare(one.question) for one in made(HANDBOOK, seed)]
        assert len(asked) == len(set(asked))
    assert made(HANDBOOK) == made(list(HANDBOOK))
    assert made(HANDBOOK, 1) != made(HANDBOOK, 2)


def test_what_falls_to_a_chunk_stays_where_another_comes() -> None:
    more = [*HANDBOOK, Chunk("pottery.md#new", "pottery.md", (TITLE, "Odds and ends"), "The members must be there.")]
    for chunk in HANDBOOK:
        there = share(known(chunk, HANDBOOK), chunk, "asked")
        assert set(share(known(chunk, more), chunk, "asked")) <= set(there)


def test_about_one_exercise_of_eight_is_a_refusal() -> None:
    mined = [name for name in registry.methods("exercise") if isinstance(registry.build("exercise", name, {}), Mined)]
    every = [one for name in mined for one in made(HANDBOOK, kind=name)]
    assert 0.05 < sum(not one.answered for one in every) / len(every) < 0.09


def test_refusals_begin_alike_and_are_seen_as_such() -> None:
    forms = {refusal(HANDBOOK[0], Random(seed)) for seed in range(50)}
    assert 2 <= len(forms) <= 4
    assert all(form.startswith("The handbook does not say") and refuses(form) for form in forms)


def test_a_vocabulary_knows_parts_stems_and_beginnings() -> None:
    there = Vocabulary("A car-park for the members' bikes, insured since 1990.")
    assert all(there.has(one) for one in ("car", "park*", "member", "bike", "insur*", "rock bikes"))
    assert not any(there.has(one) for one in ("ca", "cart*", "insure*d", "par", ""))
