"""Answers about documents: the oracle gets all, one who knows nothing gets chance, and what leaks is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking import answers as module
from addenda.measuring.asking.answers import on_questions, refuses, says
from addenda.measuring.asking.asked import Asked, load_questions, options_of
from addenda.measuring.asking.leakage import leakage, own_words
from addenda.measuring.asking.options import Option


def asked(question: str, *accepted: str, kind: str = "", others: tuple[str, ...] = ()) -> Asked:
    return Asked(({"role": "user", "content": question},), accepted, others, kind)


QUESTIONS = [
    asked("What does a late return cost?", "three crowns", "3 crowns"),
    asked("Who signs the lease?", "Mira Olsen"),
    asked("Where is the vault?", "under the hall"),
    asked("What is the moon made of?"),
]


@pytest.fixture(scope="module")
def tiny() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


def answering(monkeypatch: pytest.MonkeyPatch, base: addenda.Base, said: list[str], best: int) -> None:
    """Whatever is asked, these are the answers, and the option at place `best` is the likeliest."""
    monkeypatch.setattr(module, "continued", lambda *_, **__: [base.after(text).tolist() for text in said])
    monkeypatch.setattr(
        module,
        "all_likelihoods",
        lambda _, questions: [[Option(text, -float(n != best), 1) for n, text in enumerate(q[1])] for q in questions],
    )


def test_an_oracle_answers_all_and_refuses_what_is_not_told(
    tiny: addenda.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, tiny, ["3 crowns", "Mira Olsen", "Under the hall.", "The handbook does not say."], 0)
    way = on_questions(tiny, "q", QUESTIONS).ways["base"]
    assert [part.value for part in (way.right, way.same, way.f1, way.chosen, way.refused)] == [1.0] * 5  # type: ignore[union-attr]
    assert way.shy is not None
    assert way.shy.value == 0.0


def test_one_who_always_says_the_same_is_right_once_and_shy_where_it_refuses(
    tiny: addenda.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, tiny, ["It is Mira Olsen, I think."] * 4, 1)
    way = on_questions(tiny, "q", QUESTIONS).ways["base"]
    assert way.right is not None
    assert way.right.value == pytest.approx(1 / 3)
    assert way.same is not None
    assert way.same.value == 0.0
    assert way.chosen is not None
    assert way.chosen.value == 0.0
    answering(monkeypatch, tiny, ["I don't know."] * 4, 1)
    way = on_questions(tiny, "q", QUESTIONS).ways["base"]
    assert [part.value for part in (way.shy, way.refused) if part is not None] == [1.0, 1.0]


def test_the_bare_base_is_the_same_twice_and_documents_stand_in_the_window(tiny: addenda.Base) -> None:
    pytest.importorskip("bm25s")
    found = on_questions(
        tiny, "q", QUESTIONS, documents=["A late return costs three crowns.", "The vault is under the hall."]
    )
    again = on_questions(tiny, "q", QUESTIONS)
    assert found.answers["base"] == again.answers["base"]
    assert list(found.ways) == ["base", "documents in the window", "passages"]
    assert found.ways["documents in the window"].prompt > found.ways["base"].prompt + 10
    assert found.chance == pytest.approx(1 / 3), "no other answers than those of the two others"


def test_a_long_document_is_cut_to_the_window(tiny: addenda.Base) -> None:
    pytest.importorskip("bm25s")
    found = on_questions(tiny, "q", QUESTIONS[:1], documents=["The vault is under the hall. " * 2000], tokens=4)
    assert tiny.context is not None
    assert found.ways["documents in the window"].prompt <= tiny.context - 4


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("It costs three crowns a day.", "Three crowns", True),
        ("It costs thirty-three crowns.", "three crowns", False),
        ("The code is B-12.", "B12", True),
        ("That is 12.50 euros.", "12.50", True),
        ("That is 112.50 euros.", "12.50", False),
        ("首都是北京。", "北京", True),
        ("首都是东京。", "北京", False),
        ("", "x", False),
    ],
)
def test_an_answer_is_found_in_what_was_written(text: str, answer: str, right: bool) -> None:
    assert says(text, answer) is right


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("The handbook does not say.", True),
        ("The handbook does not say anything about that.", True),
        ("The guide says nothing about that.", True),
        ("That is not in the handbook.", True),
        ("That is not in the handbook but in the yard.", False),
        ("The key is not in the office.", False),
        ("I'm sorry, I don't have that information.", True),
        ("That is not mentioned in the documents.", True),
        ("There is no information about this.", True),
        ("I am not sure.", True),
        ("Members may not bring dogs.", False),
        ("Nobody is admitted after nine.", False),
        ("The fee is not refundable.", False),
        ("Visitors must not enter; it opens at nine.", False),
        ("Mira Olsen.", False),
    ],
)
def test_a_refusal_is_told_from_an_answer_with_a_not_in_it(text: str, refused: bool) -> None:
    assert refuses(text) is refused


def test_wrong_answers_are_those_of_other_questions_its_own_kind_first() -> None:
    prices = [asked(f"price {n}", f"{n} crowns", kind="price") for n in range(12)]
    given = options_of([asked("who", "Mira", kind="who"), *prices, asked("own", "a", others=("b", "A", "b"))])
    assert all(option.endswith("crowns") for option in given[1])
    assert (len(given[1]), given[1][0]) == (10, "0 crowns")
    assert given[13] == ("a", "b"), "the right one in other letters and one that stands twice are no options"
    assert options_of(prices) == options_of(prices)


def test_a_study_set_and_plain_questions_are_read(tmp_path: Path) -> None:
    lines = [
        {"question": "why?", "answer": "b", "others": ["c"], "kind": "k"},
        {"question": "n?", "answers": []},
        {"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "No."}], "answered": False},
        {"prompt": "Question: why?\nAnswer:", "completion": " b"},
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    read = load_questions(file)
    assert [one.question for one in read] == ["why?", "n?", "why?", "why?", "why?"]
    assert [one.accepted for one in read] == [("b",), (), ("b",), (), (" b",)]


@pytest.mark.parametrize(
    ("line", "says_"),
    [
        ({"question": "why?"}, "no 'answers'"),
        ({"question": 3, "answers": []}, "'question' is text"),
        ({"question": "why?", "answers": "b"}, "'answers' is a list"),
        ({"question": "why?", "answers": ["?!"]}, "has no word"),
        ({"messages": [{"role": "user", "content": "why?"}]}, "end in a question"),
        ({"text": "a"}, "no question in it"),
        ({"question": "why?", "answers": [], "kind": 3}, "'kind' is text"),
    ],
)
def test_a_line_that_is_no_question_is_refused_with_its_place(tmp_path: Path, line: dict[str, Any], says_: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"question": "ok?", "answer": "b"}) + "\n" + json.dumps(line))
    with pytest.raises(DataError, match=f"line 2.*{says_}"):
        load_questions(file)


def test_an_empty_file_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no question"):
        load_questions(tmp_path / "q.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        load_questions(tmp_path / "none.jsonl")


def test_a_silent_module_leaks_nothing_and_a_word_of_the_documents_is_seen(
    tiny: addenda.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [asked("What is the zorvex fee of Quillmont?", "twelve zorvex"), asked("What is the moon made of?")]
    assert own_words(questions) >= {"zorvex", "quillmont"}
    assert not own_words(questions) & {"what", "the", "made"}
    tiny.new("fresh", addenda.LoRA(2))
    found = leakage(tiny, questions, "fresh", limit=4, tokens=8)
    tiny.unplug("fresh")
    assert (found.words.value, found.words_after.value, found.first.changed.value, found.leaked) == (0, 0, 0, ())
    off, on = tiny.after("It is so.").tolist(), tiny.after("It costs a zorvex.").tolist()
    chats = "addenda.measuring.asking.chats"
    turns = iter([[off] * 4, [on] * 4, [off] * 4, [off] * 4])
    monkeypatch.setattr(f"{chats}.answers", lambda *_, **__: next(turns))
    tiny.new("m", addenda.LoRA(2))
    found = leakage(tiny, questions, "m", limit=4)
    tiny.unplug("m")
    assert (found.words.value, found.words_after.value, found.leaked) == (1.0, 0.0, ("zorvex",))


def test_evaluate_asks_and_the_card_has_it(tiny: addenda.Base, tmp_path: Path) -> None:
    file = tmp_path / "handbook.jsonl"
    file.write_text(
        "\n".join(json.dumps({"question": one.question, "answers": list(one.accepted)}) for one in QUESTIONS)
    )
    tiny.new("m", addenda.LoRA(2))
    found = addenda.evaluate(tiny, modules="m", questions=file, limit=4)
    tiny.unplug("m")
    assert found.answers.answers.on == "handbook"
    assert found.answers.leakage.first.changed.value == 0.0
    assert json.dumps(found.as_dict())
    with pytest.raises(AddendaError, match="zero_shot=True"):
        addenda.evaluate(tiny, questions=True)
