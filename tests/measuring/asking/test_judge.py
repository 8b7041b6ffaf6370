"""The judge: verdicts are counted, kept and not asked for again; what is none is told; and a failing judge loses nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, FileError
from addenda.measuring.asking import answers as answering
from addenda.measuring.asking.answers import on_questions
from addenda.measuring.asking.asked import Asked
from addenda.measuring.asking.judge import FIRST, Judge, ask_of, verdict_of
from addenda.measuring.conducting.evaluate import evaluate
from addenda.remote import endpoint
from addenda.remote.answerer import Said
from addenda.remote.endpoint import EndpointError
from addenda.telling.interrupts import Interrupts, Stopped
from chat_stand_in import completion, served


def asked(question: str, *accepted: str) -> Asked:
    return Asked(({"role": "user", "content": question},), accepted)


QUESTIONS = [
    asked("What does a late return cost?", "three crowns", "3 crowns"),
    asked("Who signs the lease?", "Mira Olsen"),
    asked("Where is the vault?", "under the hall"),
    asked("What is the moon made of?"),
]
SAID = ["A trio of crowns.", "Mira Olsen", "", "Cheese."]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)


@pytest.fixture(scope="module")
def tiny() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


def knowing(prompt: str) -> str:
    """What a good judge says."""
    return "Yes." if any(right in prompt for right in ("A trio of crowns.", "has 7 days")) else " no"


def answer_in(prompt: str) -> str:
    return prompt.split("Answer: ")[1].split("\n")[0]


def test_what_a_judge_says_is_counted_and_asked_for_once(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "verdicts.jsonl"
    with served(knowing) as there:
        judge = Judge(there.address, file=file)
        found = judge.judged(QUESTIONS, {"base": SAID, "modules": SAID})
        first = [answer_in(body["messages"][-1]["content"]) for body in there.asked]
        assert first[0] == FIRST[1]
        assert sorted(first[1:]) == ["A trio of crowns.", "Mira Olsen"], (
            "the same is sent once, no word and no truth never"
        )
        assert {body["temperature"] for body in there.asked} == {0.0}
        assert found.verdicts == {"base": (True, False, False, None), "modules": (True, False, False, None)}
        assert (found.judge, found.at, found.asked, found.neither, found.failed) == ("local", "127.0.0.1", 4, 0, None)
        share = found.share("base")
        assert share is not None
        assert (share.value, share.n) == (pytest.approx(1 / 3), 3)
        assert str(found) == "judged right by local at 127.0.0.1"
    # who judged is away now: what it said is there
    assert (
        Judge(there.address, "local", file).judged(QUESTIONS, {"base": SAID}).verdicts["base"] == found.verdicts["base"]
    )
    with served(knowing) as elsewhere:
        Judge(elsewhere.address, file=file).judged(QUESTIONS, {"base": SAID})
        assert not elsewhere.asked, "the same model's word, wherever it is"
        Judge(elsewhere.address, "another", file).judged(QUESTIONS, {"base": SAID})
        assert len(elsewhere.asked) == 3


def test_a_judge_reads_the_question_with_what_was_said_before_the_true_answers_and_the_answer() -> None:
    turns = ({"role": "user", "content": "What is a fee?"}, {"role": "assistant", "content": "{3}"})
    one = Asked((*turns, {"role": "user", "content": "And a year?"}), ("40 crowns", "forty"))
    told = ask_of(one, "It is {question}").messages[0]["content"]
    assert (
        "[assistant] {3}\n[user] And a year?\n\nTrue answer: 40 crowns / or: forty\n\nAnswer: It is {question}\n"
        in told
    )


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        *(("yes", True), ("No", False), (" YES.\n", True), ("**no**", False), ('"Yes!"', True)),
        *(
            ("<think>It says no.\nYet</think>\n\nyes", True),
            ("<think>yes", None),
            ("yes, it is", None),
            ("yes no", None),
        ),
        *(("", None), ("maybe", None), ("correct", None), ("The answer is: no", None), ("nope", None), ("y", None)),
    ],
)
def test_one_word_is_a_verdict_and_nothing_else(said: str, verdict: bool | None) -> None:
    assert verdict_of(Said(said)) is verdict
    assert verdict_of(Said(said, cut=True)) is None


def test_neither_yes_nor_no_is_told_left_out_and_asked_for_again(tmp_path: Path) -> None:
    with served(lambda prompt: "It depends." if "Mira" in prompt else knowing(prompt)) as there:
        found = Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID})
        assert found.verdicts["base"] == (True, None, False, None)
        assert str(found).endswith("it said neither yes nor no to 1 of 2")
        share = found.share("base")
        assert share is not None
        assert (share.value, share.n) == (0.5, 2)
        there.answer, count = knowing, len(there.asked)
        again = Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID})
        assert (again.neither, len(there.asked) - count) == (0, 1)


def test_one_that_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    times: dict[str, int] = {}

    def answer(prompt: str) -> Any:
        times[prompt] = times.get(prompt, 0) + 1
        return 500 if times[prompt] < 3 else knowing(prompt)

    with served(answer) as there:
        found = Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID})
    assert found.verdicts["base"] == (True, False, False, None)
    assert set(times.values()) == {3}


ODD: dict[str, tuple[Any, str]] = {
    "no choices": ({"choices": []}, "answers what is no chat completion"),
    "a web page": (b"<html>Hello", "answers what is no chat completion: '<html>Hello'"),
    "huge": (b"y" * (endpoint.MOST + 1), "answers what is no chat completion: 'yyy"),
    "a number": (completion(1), "answers what is no chat completion"),
    "busy": (503, r"answers 503 \(as the test has it\), \d+ times in a row"),
    "unknown": (404, r"answers 404 \(as the test has it\)"),
}


@pytest.mark.parametrize("what", ODD)
def test_one_that_fails_is_told_and_verdicts_that_came_are_kept(tmp_path: Path, what: str) -> None:
    odd, message = ODD[what]
    patience = 0.3 if what == "busy" else 60.0
    with served(lambda prompt: odd if "Mira" in prompt else knowing(prompt)) as there:
        judge = Judge(there.address, file=tmp_path / "v.jsonl", patience=patience)
        judge.judged(QUESTIONS[:1], {"base": SAID})
        found = judge.judged(QUESTIONS, {"base": SAID})
        assert (found.verdicts, found.share("base"), found.asked) == ({}, None, 2)
        assert str(found).startswith("not judged: the judge at http://127.0.0.1:")
        assert str(found).endswith("; 1 of 2 verdicts are kept, and the same again asks for the rest")
        with pytest.raises(AddendaError, match=message):
            raise AddendaError(str(found))
        there.answer = lambda _: odd
        with pytest.raises(EndpointError, match=message):  # before anything is measured
            Judge(there.address, file=tmp_path / "w.jsonl", patience=patience)
        there.answer, count = knowing, len(there.asked)
        assert Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID}).failed is None
        assert len(there.asked) - count == 1


def test_long_and_empty_words_are_no_verdict(tmp_path: Path) -> None:
    with served(lambda _: "yes " * 100_000) as there:
        assert Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID}).neither == 2
        there.answer = lambda _: completion(None)
        assert Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID}).neither == 2
    assert not (tmp_path / "v.jsonl").exists()


def test_a_signal_stops_it_at_once_and_it_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    waiting, over = threading.Event(), threading.Event()
    signals = Interrupts()

    def answer(prompt: str) -> str:
        if waiting.is_set() and "Mira" in prompt:
            threading.Timer(0.2, lambda: setattr(signals, "seen", "SIGINT")).start()
            over.wait(30)
        return knowing(prompt)

    with served(answer) as there:
        judge = Judge(there.address, file=tmp_path / "v.jsonl")
        waiting.set()
        began = time.monotonic()
        with signals:
            with pytest.raises(Stopped):
                judge.judged(QUESTIONS, {"base": SAID})
            signals.seen = None
        assert time.monotonic() - began < 10
        over.set()
        waiting.clear()
        count = len(there.asked)
        found = Judge(there.address, file=tmp_path / "v.jsonl").judged(QUESTIONS, {"base": SAID})
        assert found.verdicts["base"] == (True, False, False, None)
        assert answer_in(there.asked[-1]["messages"][-1]["content"]) == "Mira Olsen"
        assert len(there.asked) - count == 1


def test_nobody_there_a_file_that_cannot_be_used_and_what_is_no_address(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for model in (None, "named"):
        with pytest.raises(EndpointError, match=rf"the judge at http://127.0.0.1:{port}/v1 cannot be reached"):
            Judge(f"http://127.0.0.1:{port}/v1", model, tmp_path / "v.jsonl", patience=0.1)
    with pytest.raises(EndpointError, match="a judge is the address of a chat endpoint"):
        Judge("local", file=tmp_path / "v.jsonl")
    (tmp_path / "file").write_text("")
    with served(knowing) as there:
        with pytest.raises(FileError, match="cannot be read"):
            Judge(there.address, file=tmp_path)
        with pytest.raises(FileError, match="cannot be written"):
            Judge(there.address, file=tmp_path / "file" / "v.jsonl")


def written(monkeypatch: pytest.MonkeyPatch, base: addenda.Base, said: list[str]) -> None:
    monkeypatch.setattr(answering, "continued", lambda *_, **__: [base.after(text).tolist() for text in said])


def questions(file: Path) -> Path:
    file.write_text("\n".join(json.dumps({"question": q.question, "answers": list(q.accepted)}) for q in QUESTIONS))
    return file


def test_a_share_stands_beside_right_and_on_the_card_where_a_judge_was_asked(
    tiny: addenda.Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written(monkeypatch, tiny, SAID)
    tiny.new("m", addenda.LoRA(2))
    with served(knowing) as there:
        judge = Judge(there.address, file=tmp_path / "v.jsonl")
        found = on_questions(tiny, "q", QUESTIONS, "m", judge=judge)
    plain = on_questions(tiny, "q", QUESTIONS, "m")
    tiny.unplug("m")
    way, without = found.ways["modules"], plain.ways["modules"]
    assert way.right == without.right
    assert way.right is not None
    assert way.judged is not None
    assert (way.right.value, way.judged.value) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (found.answers["base"][0], found.right("base", 0)) == (SAID[0], False), "right in other words"
    lines = {line.name: line for line in found.on_card()}
    line = lines["questions answered rightly, as judged by local"]
    assert (line.value, line.reference, line.n, line.on) == (way.judged.value, way.judged.value, 3, "q")
    assert (without.judged, plain.judged, plain.as_dict()["judged"]) == (None, None, None)
    assert not any("judged" in line.name for line in plain.on_card())


def test_what_else_was_measured_stands_where_a_judge_went_away(
    tiny: addenda.Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written(monkeypatch, tiny, SAID)
    monkeypatch.setattr(Judge.__init__, "__kwdefaults__", {"patience": 0.2, "transport": None})
    with served(lambda prompt: 503 if "crowns" in prompt else knowing(prompt)) as there:
        given: dict[str, Any] = {"judge": there.address, "verdicts": tmp_path / "v.jsonl"}
        found = evaluate(tiny, questions=questions(tmp_path / "q.jsonl"), **given)
    answers = found.answers.answers
    assert answers.ways["base"].right.n == 3
    assert answers.ways["base"].judged is None
    assert "answers 503" in found.as_dict()["answers"]["answers"]["judged"]["failed"]


def test_a_judge_goes_with_questions(tiny: addenda.Base, tmp_path: Path) -> None:
    with pytest.raises(AddendaError, match="judge goes with questions, which is not asked for"):
        evaluate(tiny, {"a": ["The vault is under the hall."]}, judge="http://127.0.0.1:9/v1")
