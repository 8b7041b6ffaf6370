"""Rounds: the student's answers become records, drawn the same each time, and a run that was broken off is taken up exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import DataError, TrainingError
from addenda.objectives.objective import Answering
from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from addenda.writing import checkpoint, rounds
from addenda.writing.rounds import Rounds
from addenda.writing.step import Stepper
from addenda.writing.teacher import Teacher

from .studied import RUN, make, records
from .test_studied import Enough, assert_equal, cut_off, tensors

OBJECTIVE = "on_policy(rounds=3, answer_tokens=8)"
GIVEN = RUN | {"objective": OBJECTIVE, "checkpoint_every": 3}


def made(base: addenda.Base, folder: Path, temperature: float = 1.0, **more: Any) -> Rounds:
    return Rounds(base, Answering(3, 8, temperature, True), folder, **{"steps": 12, "seed": 5} | more)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def answers(folder: Path, temperature: float = 1.0, number: int = 1, **more: Any) -> list[dict[str, Any]]:
    base = make()
    one = made(base, folder, temperature, **more)
    one.answer("a", {"a": 1.0}, texts(records()), number, [40] * 24, 10**6)
    return lines(one.file("a", number))


def test_steps_belong_to_rounds(tmp_path: Path) -> None:
    one = made(make(), tmp_path, steps=13)
    assert one.starts == [0, 4, 8]
    assert [one.at(step) for step in (0, 3, 4, 7, 8, 12)] == [0, 0, 1, 1, 2, 2]
    assert [one.length(number) for number in range(3)] == [4, 4, 5]
    assert [one.answered(number) for number in range(3)] == [False, True, True]
    assert made(make(), tmp_path, steps=2).starts == [0, 1]


def test_answers_are_records_of_the_same_questions(tmp_path: Path) -> None:
    found = answers(tmp_path)
    asked = {json.dumps([record["messages"][0]]): record for record in records()}
    assert len(found) == 24
    said = 0
    for line in found:
        if "messages" in line:  # where it said nothing, the record's own answer stands
            assert line in records()
            continue
        assert line["reads"] == asked[json.dumps(line["prompt"])]["reads"]
        said += line["completion"] != asked[json.dumps(line["prompt"])]["messages"][1]["content"]
    assert said > 12
    base = make()
    encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
    assert all(encoder.one(record).weights.any() for record in texts(found))


def test_what_is_drawn_depends_on_seed_and_round_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = answers(tmp_path / "one")
    torch.manual_seed(2)
    assert answers(tmp_path / "two") == first
    assert answers(tmp_path / "three", number=2) != first
    assert answers(tmp_path / "four", seed=6) != first
    greedy = answers(tmp_path / "five", 0.0)
    key = lambda line: json.dumps(line.get("prompt", line.get("messages")))  # noqa: E731
    assert sorted(greedy, key=key) == sorted(answers(tmp_path / "six", 0.0, seed=6), key=key)


def test_greedy_answers_are_what_the_model_says_alone(tmp_path: Path) -> None:
    base = make()
    for line in answers(tmp_path, 0.0)[:6]:
        if "prompt" not in line:
            continue
        ids = torch.tensor(rounds.question_ids(base.tokenizer, line["prompt"]))[None]
        with base.using("a"):
            out = base.model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        assert base.tokenizer.decode(out, skip_special_tokens=True) == line["completion"]


def test_no_more_is_answered_than_a_round_reads(tmp_path: Path) -> None:
    one = made(make(), tmp_path)
    one.answer("a", {"a": 1.0}, texts(records()), 1, [40] * 24, 200)
    assert len(lines(one.file("a", 1))) == 8


def test_answers_that_are_there_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PART", 10)
    straight = answers(tmp_path / "straight")
    with monkeypatch.context() as patched:
        cut_off(patched, rounds, "continued", 3)
        with pytest.raises(Enough):
            answers(tmp_path / "cut")
    written: list[int] = []
    original = rounds.continued

    def count(base: Any, prompts: Any, **options: Any) -> Any:
        written.append(len(prompts))
        return original(base, prompts, **options)

    monkeypatch.setattr(rounds, "continued", count)
    assert answers(tmp_path / "cut") == straight
    assert written == [4]
    assert [file.name for file in (tmp_path / "cut" / "a").iterdir()] == ["round-1.jsonl"]
    assert answers(tmp_path / "cut") == straight
    assert written == [4]


def test_a_question_that_does_not_fit_is_told_by_its_place(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "long. " * 300}, {"role": "assistant", "content": "yes"}]
    one = made(make(), tmp_path)
    with pytest.raises(DataError, match=r"text 1: the question has .* does not fit the base's context of 512"):
        one.answer("a", {"a": 1.0}, texts([{"messages": messages, "reads": ""}]), 1, [40], 100)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], addenda.TrainReport, Path]:
    """The run that was never interrupted."""
    base, out = make(), tmp_path_factory.mktemp("straight") / "a"
    report = addenda.train(base, "a", **GIVEN, out=out)
    return tensors(base), report, out


def test_a_run_keeps_what_was_answered(straight: Any) -> None:
    _, _, out = straight
    kept = sorted(file.name for file in (checkpoint.run_folder(out) / "answers" / "a").iterdir())
    assert kept == ["round-1.jsonl", "round-2.jsonl"]
    assert not (checkpoint.run_folder(out) / "teacher").exists()


#: what is broken off, at which call, and the step that is gone on from
CUTS: dict[str, tuple[Any, str, int, int | None]] = {
    "in the first round": (Stepper, "take", 3, None),
    "in the second round": (Stepper, "take", 8, 6),
    "while it answers": (rounds, "continued", 1, 4),
    "while the teacher reads the answers": (Teacher, "said", 2, 4),
    "at the first step of a round": (Stepper, "take", 9, 8),
    "in the last round": (Stepper, "take", 11, 9),
}


#: the two that every run of the tests breaks off
QUICK = ("in the second round", "while the teacher reads the answers")


@pytest.mark.parametrize("cut", [pytest.param(cut, marks=[] if cut in QUICK else [pytest.mark.slow]) for cut in CUTS])
def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(
    straight: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    wanted, report, _ = straight
    owner, name, call, step = CUTS[cut]
    with monkeypatch.context() as patched:
        cut_off(patched, owner, name, call)
        with pytest.raises(Enough):
            addenda.train(make(), "a", **GIVEN, out=tmp_path / "a")
    again = make()
    resumed = addenda.train(again, "a", **GIVEN, out=tmp_path / "a", resume=True)
    assert resumed.resumed_from == step
    assert (resumed.losses, resumed.data_crc) == (report.losses, report.data_crc)
    assert_equal(tensors(again), wanted)
    told = addenda.train(make(), "a", **GIVEN, out=tmp_path / "a", resume=True)
    assert told.losses == report.losses


def test_the_student_may_answer_from_the_first_step(tmp_path: Path) -> None:
    given = GIVEN | {"objective": "on_policy(rounds=2, answer_tokens=8, first='student')"}
    base = make()
    addenda.train(base, "a", **given, out=tmp_path / "a")
    kept = sorted(file.name for file in (tmp_path / "a.run" / "answers" / "a").iterdir())
    assert kept == ["round-0.jsonl", "round-1.jsonl"]


def test_answers_that_are_gone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        cut_off(patched, Stepper, "take", 8)
        with pytest.raises(Enough):
            addenda.train(make(), "a", **GIVEN, out=tmp_path / "a")
    (tmp_path / "a.run" / "answers" / "a" / "round-1.jsonl").unlink()
    with pytest.raises(TrainingError, match="what 'a' answered before round 2 is gone from"):
        addenda.train(make(), "a", **GIVEN, out=tmp_path / "a", resume=True)


def test_a_run_without_a_folder_learns_the_same(straight: Any) -> None:
    wanted, _, _ = straight
    base = make()
    addenda.train(base, "a", **GIVEN)
    assert_equal(tensors(base), wanted)
