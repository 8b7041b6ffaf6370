"""What a study leaves out: questions without a subject, near-repeats, held-out ones, answers that no chunk tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import addenda
from addenda.exercises.exercise import Chunk, Made, chat
from addenda.remote.store import Store
from addenda.teaching import gain as gaining
from addenda.teaching.gain import Scorer, gains
from addenda.teaching.reading import gives, questions
from addenda.teaching.repeats import HeldOut, Repeats, names_subject
from addenda.text.encoding import Encoder
from addenda.text.prompting import after_text
from teaching.studying import small

CHUNK = Chunk(
    "club.md#1", "club.md", ("Saltmarsh Boat Club", "Fees"), "A year costs 87 euros for adults. Kayaks are free."
)
CHUNKS = {CHUNK.id: CHUNK}


def made(question: str, answer: str = "87 euros.") -> Made:
    return Made(chat(question, answer), "told", (CHUNK.id,))


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("What does a year cost?", True),
        ("Is the kayak free?", True),
        ("What does the Saltmarsh club charge?", True),
        ("What is it about these fees?", True),
        ("How much is it?", False),
        ("What does it say there?", False),
        ("Who wrote Hamlet?", False),
    ],
)
def test_a_question_names_its_subject_by_a_word_of_its_chunk(question: str, names: bool) -> None:
    assert names_subject(made(question), CHUNKS) == names


def test_what_the_documents_do_not_tell_names_something_else() -> None:
    for question, names in (("What does it say about the fax machine?", True), ("What does it say about that?", False)):
        refused = Made(chat(question, "The handbook does not say."), "unanswered", (CHUNK.id,), answered=False)
        assert names_subject(refused, CHUNKS) == names


def test_the_subject_may_stand_in_an_earlier_turn_and_in_a_script_without_spaces() -> None:
    turns = (*chat("What does a year cost?", "87 euros."), *chat("And how is it paid?", "In June."))
    assert names_subject(Made(turns, "told", (CHUNK.id,)), CHUNKS)
    other = {"a": Chunk("a", "規則.md", (), "鍵は青い扉の後ろにあります。")}
    assert names_subject(Made(chat("青い扉はどこ？", "ここ"), "told", ("a",)), other)
    assert not names_subject(Made(chat("それは何？", "ここ"), "told", ("a",)), other)


def test_near_repeats_say_the_same_and_other_names_or_numbers_are_none() -> None:
    repeats = Repeats()
    first = chat(
        "What does a mooring by the long pier cost for a week in June?", "A mooring by the long pier costs 12 euros."
    )
    assert not repeats.seen(first)
    repeats.see(first)
    assert repeats.seen(first)
    assert repeats.seen(
        chat(
            "what does a mooring by the long pier cost, for a week in June", "A mooring by the long pier costs 12 euros"
        )
    )
    assert not repeats.seen(chat(first[0]["content"].replace("long", "short"), first[1]["content"]))
    assert not repeats.seen(chat(first[0]["content"], first[1]["content"].replace("12", "13")))
    assert not repeats.seen(chat("How much is a week at the long pier?", first[1]["content"]))


def test_held_out_questions_are_not_asked_whatever_the_answer() -> None:
    passage = "Here is a passage of more than thirteen words that is held out, with a question: who keeps the key?"
    held = HeldOut([chat("Who keeps the spare key?", "Pietro Brandt."), chat(passage, "Ines.")])
    assert held.has(chat("who keeps the spare key", "Somebody."))
    assert held.has((*chat("Hello!", "Hello."), *chat("Who keeps the spare key?", "Brandt.")))
    assert held.has(chat(f"Tell me. {passage.split(', ')[0]}, yes?", "x"))
    assert not held.has(chat("Where does the spare key hang?", "Pietro Brandt keeps the spare key."))
    assert not HeldOut([]).has(chat("Who?", "x"))


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return small()


def scored(base: addenda.Base, messages, text: str | None) -> float:
    """The mean log-probability of the last answer, by the plain model."""
    import torch

    read = list(messages) if text is None else after_text(messages, text)
    whole = base.tokenizer.apply_chat_template(read, tokenize=False)
    ids = base.tokenizer(whole, add_special_tokens=False)["input_ids"]
    record = Encoder(base.tokenizer, base.vocabulary).one({"messages": read})
    with torch.no_grad():
        logp = base.model(input_ids=torch.tensor([ids])).logits.log_softmax(-1)[0]
    places = record.weights.nonzero()[0].tolist()
    return float(np.mean([float(logp[at - 1, ids[at]]) for at in places]))


def test_a_gain_is_what_the_chunk_adds_to_the_mean_log_probability(
    base: addenda.Base, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(gaining, "GROUP", 3)
    chunks = {
        name: Chunk(name, "club.md", ("Fees",), f"The fee of boat {name} is {name * 2} euros a day.") for name in "abcd"
    }
    exercises = [
        Made(chat(f"What is the fee of boat {name}{'?' * n}", f"{name * 2} euros."), "told", (name,))
        for name in chunks
        for n in (1, 9)
    ]
    found = gains(Scorer(base, Store(tmp_path / "scores.jsonl")), exercises, chunks, 0)
    for one, gain in zip(exercises, found.each, strict=True):
        text = chunks[one.chunks[0]].read
        assert gain == pytest.approx(scored(base, one.messages, text) - scored(base, one.messages, None), abs=2e-4)
    assert found.pairs == len(exercises)
    wanted = gaining._mismatched(exercises, chunks, 0)
    chance = [
        scored(base, exercises[at].messages, text) - scored(base, exercises[at].messages, None) for at, text in wanted
    ]
    assert all(text not in {chunks[name].read for name in exercises[at].chunks} for at, text in wanted)
    assert found.margin == pytest.approx(max(0.0, float(np.quantile(chance, 0.95))), abs=2e-4)


def test_an_exercise_that_does_not_fit_the_window_has_no_gain(tmp_path: Path) -> None:
    from pico import pico, pico_tokenizer

    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())  # a window of 256 tokens
    chunks = {
        "a": Chunk("a", "club.md", (), "The fee is two euros. " * 30),
        "b": Chunk("b", "club.md", (), "Boats float."),
    }
    exercises = [Made(chat("The fee?", "Two."), "told", ("a",)), Made(chat("Boats?", "They float."), "told", ("b",))]
    found = gains(Scorer(base, Store(tmp_path / "scores.jsonl")), exercises, chunks, 0)
    assert found.each[0] is None
    assert isinstance(found.each[1], float)


def test_one_chunk_alone_is_compared_with_general_text(base: addenda.Base, tmp_path: Path) -> None:
    pairs = gaining._mismatched([made("What does a year cost?")] * 3, CHUNKS, 0)
    assert len(pairs) == 3
    assert all("euros for adults" not in text and len(text) > 100 for _, text in pairs)


def test_an_answer_is_given_where_its_words_and_numbers_are_said() -> None:
    one = made("What does a year cost?", "A year costs 87 euros for adults.")
    assert gives(one, "It is 87 euros if you are adult; adults pay that.")
    assert not gives(one, "It is 78 euros for adults.")
    assert not gives(one, "A year costs a year.")


def test_questions_to_find_out_are_of_as_many_chunks_as_there_are() -> None:
    pool = [Made(chat(f"Q{n} of {c}?", f"Answer {n} {c}."), "told", (c,)) for c in "abc" for n in range(20)]
    chosen = questions(pool, 0)
    assert len(chosen) == 24
    assert {c: sum(one.chunks == (c,) for one in chosen) for c in "abc"} == {"a": 8, "b": 8, "c": 8}
    assert questions(pool, 0) == chosen != questions(pool, 1)
