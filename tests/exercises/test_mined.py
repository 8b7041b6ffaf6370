"""What miners make of sentences: their questions word for word, and what they leave alone."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest

from addenda.core import registry
from addenda.exercises.exercise import Chunk, Made, Mined

#: every wording, so that none is left to chance
MANY = {"phrasings": 50}


def mine(
    kind: str,
    text: str,
    *,
    headings: tuple[str, ...] = ("Harbour Library", "Loans of tools"),
    seed: int = 1,
    **options: object,
) -> list[Made]:
    chunk = Chunk("a#0", "a", headings, text)
    padding = Chunk(
        "a#1", "a", headings, "The house is in the town. It is for all of the members, and they must be there at ten."
    )
    method = cast("Mined", registry.build("exercise", kind, options))
    return list(method.mine(chunk, [chunk, padding], Random(seed)))


def questions(kind: str, text: str) -> set[str]:
    """What is asked, without headings before it."""
    options = MANY if "phrasings" in {*registry.options_of(registry.build("exercise", kind, {}))} else {}
    asked = [one.question for one in mine(kind, text, **options)]
    return {one.split(": ", 1)[-1].split('", ', 1)[-1].removeprefix("According to ").lower() for one in asked}


ASKED = [
    ("costs", "The fee for late return is 1.20 euros per day.", "what does late return cost?"),
    ("costs", "The fee for late return is 1.20 euros per day.", "how much do i have to pay for late return?"),
    ("costs", "A night pass costs 40 euros and is valid for three months.", "how much does a night pass cost?"),
    ("costs", "Members pay $12 a month.", "how much do members pay?"),
    ("costs", "An item that comes back late costs 3.40 euros.", "what does an item that comes back late cost?"),
    ("amounts", "Members may borrow up to five tools at once.", "how many tools may members borrow at once?"),
    ("amounts", "Members may borrow up to five tools at once.",
     "what is the largest number of tools that members may borrow at once?"),
    ("amounts", "A night pass costs 40 euros and is valid for three months.", "for how long is a night pass valid?"),
    ("amounts", "Fire extinguishers are inspected every seven months.", "how often are fire extinguishers inspected?"),
    ("amounts", "Paid staff have 32 days of leave a year.", "how many days of leave do paid staff have a year?"),
    ("times", "The counter opens at 9:30 on weekdays.", "at what time does the counter open on weekdays?"),
    ("times", "On working days the doors open at 7:30 and close at 19:30.", "when do the doors close on working days?"),
    ("times", "In 1999, the old tower was rebuilt.", "in which year was the old tower rebuilt?"),
    ("places", "The spare key is kept in the grey locker behind the counter.", "where can i find the spare key?"),
    ("places", "Mara Lindqvist lives in Odenfurt.", "where does mara lindqvist live?"),
    ("persons", "The plan is made by Kofi Haddad, who pins it to the board.", "who is the plan made by?"),
    ("persons", "Tomas Brandt manages the workshop.", "who manages the workshop?"),
    ("persons", "The caretaker is Lena Vogt.", "who is the caretaker?"),
    ("numbered", "Damage has to be reported on form K-12.", "on which form does damage have to be reported?"),
    ("numbered", "The code of the side door is 4711.", "what is the code of the side door?"),
    ("objects", "Guests wear an orange badge.", "what kind of badge do guests wear?"),
    ("definitions", "A steward is a volunteer who checks tools in and out.", 'what does "steward" mean?'),
    ("definitions", "A steward is a volunteer who checks tools in and out.",
     "what is the word for a volunteer who checks tools in and out?"),
    ("duties", "Members must not lend tools to other people.", "may members lend tools to other people?"),
    ("duties", "You can't park in the yard.", "can i park in the yard?"),
    ("duties", "You must return your card.", "must i return my card?"),
    ("conditions", "If you lose your card, report it to Lena Vogt.", "what should i do if i lose my card?"),
    ("conditions", "A refund is refused if the seal is broken.", "what happens if the seal is broken?"),
    ("reasons", "Tools must be cleaned because rust spreads quickly.", "why must tools be cleaned?"),
    ("turned", "The spare key is kept in the grey locker behind the counter.",
     "which key is kept in the grey locker behind the counter?"),
    ("turned", "Form K-12 is used for damage reports.", "which form is used for damage reports?"),
    ("yes_no", "The loan period is 14 days.", "is the loan period 14 days?"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "asked"), ASKED)
def test_a_sentence_is_asked_for_in_plain_words(kind: str, text: str, asked: str) -> None:
    assert asked in questions(kind, text), sorted(questions(kind, text))


@pytest.mark.parametrize(
    "kind", "costs amounts times places persons numbered objects definitions turned yes_no".split()
)
@pytest.mark.parametrize(
    "text",
    [
        "It costs 4 euros and is open at 9:30 on Mondays.",  # nobody knows what
        "This fee is 4 euros.",
        "Their desk is in the hall.",
        "Ask the steward at 9:30.",  # an order
        "Is the fee 4 euros?",
        "Although the fee is 4 euros it is kept in the box.",
        '"The fee is 4 euros," she said.',
    ],
)
def test_what_points_elsewhere_or_is_no_statement_is_left_alone(kind: str, text: str) -> None:
    assert not questions(kind, text)


def test_a_number_in_a_second_statement_is_not_taken_for_the_firsts() -> None:
    text = "Members must show a card that is valid for 30 days."
    assert not any("how long" in one for one in questions("amounts", text))


def test_yes_and_no_say_what_is_so() -> None:
    answers = {one.question: one.answer for one in mine("yes_no", "The loan period is 14 days.")}
    assert len(answers) == 2
    for question, answer in answers.items():
        assert answer == ("Yes" if "14 days" in question else "No") + ". The loan period is 14 days."
    bounds = mine("yes_no", "Members may borrow up to five tools. The counter is open from 10:00 to 14:00.")
    assert all(one.answer.startswith("Yes") for one in bounds)  # another number might be true too


def test_what_is_forbidden_is_answered_no() -> None:
    made = mine("duties", "Members must not lend tools to other people.", **MANY)
    assert made
    assert all(one.answer == "No. Members must not lend tools to other people." for one in made)


def test_a_pronoun_takes_the_name_where_only_one_can_be_meant() -> None:
    told = "Mara Lindqvist was born in Marlhaven. She works as a glazier."
    assert "Mara Lindqvist works as a glazier." in {one.answer for one in mine("persons", told)}
    two = "Mara Lindqvist met Lena Vogt. She works as a glazier."
    assert not [one for one in mine("persons", two) if "works" in one.answer]
    assert {one.answer for one in mine("costs", "The helm course is held twice a year. It costs 107 euros.")} == {
        "The helm course costs 107 euros."
    }
    assert not mine("costs", "The shop sells a scooter. It costs 107 euros.")


def test_a_vague_question_gets_the_words_of_its_heading() -> None:
    assert all("Loans of tools" in one.question for one in mine("costs", "The fee is 4 euros."))
    assert not mine("costs", "The fee is 4 euros.", headings=())


def test_tables_are_asked_both_ways_and_compared() -> None:
    text = "| Tool | Deposit |\n|---|---|\n| Drill | 20 euros |\n| Ladder | 10 euros |\n| Saw | 45 euros |"
    made = {one.question.split(": ")[-1].lower(): one.answer for one in mine("tables", text, **MANY)}
    assert made["what is the deposit for drill?"] == "The deposit for drill is 20 euros."
    assert made["which tool has the deposit 45 euros?"] == "The deposit for saw is 45 euros."
    higher = [answer for asked, answer in made.items() if "higher" in asked]
    assert higher
    assert all(float(one.split(": ")[1].split()[0]) > float(one.split(" it is ")[1].split()[0]) for one in higher)


def test_a_list_is_asked_and_turned_round() -> None:
    made = {
        one.question.split(": ")[-1].lower(): one.answer
        for one in mine("lists", "The box contains:\n\n- plasters\n- a burn gel", **MANY)
    }
    assert any("box contain?" in asked for asked in made)
    assert set(made.values()) == {
        "The box contains plasters and a burn gel.",
        "Yes. The box contains plasters and a burn gel.",
    }


def test_pairs_are_asked_by_what_their_value_is() -> None:
    asked = questions("pairs", "Telephone: 0441 229 118\nHead of the workshop: Tomas Brandt")
    assert {"what is the number for telephone?", "who is named for head of the workshop?"} <= asked


def test_a_passage_is_asked_by_its_heading_once() -> None:
    text = "The loan period is 14 days. Members must not lend tools to other people."
    made = mine("passages", text)
    assert made
    assert all(one.answer == text and "Loans of tools" in one.question for one in made)
    later = Chunk("a#9", "a", ("Harbour Library", "Loans of tools"), text)
    first = Chunk("a#8", "a", ("Harbour Library", "Loans of tools"), text)
    method = cast("Mined", registry.build("exercise", "passages", {}))
    assert not list(method.mine(later, [first, later], Random(1)))


def test_mentions_are_of_what_is_told_once() -> None:
    once = "Damage has to be reported on form K-12."
    assert any("K-12" in one.question for one in mine("mentions", once))
    assert not [
        one
        for one in mine("mentions", once + " Form K-12 is in the hall, and form K-12 is blue.")
        if "about K-12" in one.question
    ]


def test_what_is_not_answered_stands_nowhere_in_the_documents() -> None:
    told = (
        "The fee for the nursery is 4 euros. Members must not lend tools to other people. The parking permit is free."
    )
    made = mine("unanswered", told, each=200)
    assert made
    assert not [one for one in made if "nursery" in one.question or "parking" in one.question]
    assert all(not one.answered for one in made)


def test_a_second_turn_ends_in_a_document_question() -> None:
    made = mine("second_turns", "The fee for late return is 4 euros. The counter opens at 9:30 on weekdays.", each=50)
    assert made
    assert all(len(one.messages) == 4 for one in made)
    assert {one.answer for one in made} <= {
        "The fee for late return is 4 euros.",
        "The counter opens at 9:30 on weekdays.",
    }


REWORDED = [
    ("A night pass costs 40 euros.", "how expensive would a night pass be?"),
    ("A night pass costs 40 euros.", "i would like to know the price of a night pass."),
    ("Fire extinguishers are inspected every seven months.", "how frequently are fire extinguishers checked?"),
    ("The counter opens at 9:30 on weekdays.", "how early does the counter open on weekdays?"),
    ("The spare key is kept in the grey locker.", "i am looking for the spare key. where do i go?"),
    ("Tomas Brandt manages the workshop.", "give me the name of whoever looks after the workshop."),
    ("Members must not lend tools to other people.", "is it all right: may members loan tools to other people?"),
]


@pytest.mark.parametrize(("text", "asked"), REWORDED)
def test_questions_are_put_in_other_everyday_words_too(text: str, asked: str) -> None:
    found = {one.question.lower(): one for seed in range(40) for one in mine("reworded", text, seed=seed)}
    said = [question for question in found if question.endswith(asked)]
    assert said, sorted(found)
    assert found[said[0]].answer.rstrip(".").endswith(text.rstrip("."))


def test_names_codes_and_what_is_quoted_keep_their_words() -> None:
    from addenda.exercises.everyday import others

    assert [found for _, _, found in others('Which form has "fee"? Fee-Book and Room-form are names.')] == [
        ("paper", "sheet")
    ]
    assert others("Where does Close Keep end?")[-1][2] == ("finish",)
