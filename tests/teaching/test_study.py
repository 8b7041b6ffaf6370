"""Studies: the same set for a seed, also after an interruption at any moment; what is left out and why; forms and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError, FileError
from addenda.remote.answerer import Said
from addenda.remote.store import Store
from addenda.teaching import study_work
from addenda.teaching.base_teacher import BaseTeacher
from addenda.teaching.study import plan_study, study
from addenda.teaching.study_set import load_study
from teaching.studying import HANDBOOK, Answered, Told, Wanted, files, small

KINDS: dict[str, Any] = {"exercises": [Told(), Wanted(), Answered()], "chunk_tokens": 128, "log": False}
DOCUMENT = {"club.md": HANDBOOK}


def pretend(patch: pytest.MonkeyPatch) -> None:
    said = BaseTeacher._said
    patch.setattr(study_work, "reading", lambda *_: study_work.Reading(8, 10))
    patch.setattr(BaseTeacher, "_said", lambda *given: Said(said(*given).text))


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return small()


@pytest.fixture(autouse=True)
def _reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights drawn at random give no answer, and never end: here they are said to read well, and to have ended."""
    pretend(monkeypatch)


@pytest.fixture(scope="module")
def whole(base: addenda.Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "study"
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        study(base, DOCUMENT, out=out, gain=False, **KINDS)
    return out


def test_a_study_set_is_a_corpus_with_what_it_comes_from(base: addenda.Base, whole: Path) -> None:
    found = load_study(whole)
    first = found.records[0]
    assert first["messages"][-1] == {"role": "assistant", "content": "A year costs 87 euros for adults."}
    assert found.reads(first) == "Saltmarsh Boat Club > Fees\n\n" + found.chunks[first["chunk"]].text
    assert {record["kind"] for record in found.records} == {"told", "wanted", "answered"}
    base.new("m", addenda.LoRA(rank=2), seed=0)
    try:
        report = addenda.train(base, "m", corpus=whole / "study.jsonl", tokens=512, length=64, log=False)
    finally:
        base.unplug("m")
    assert report.tokens >= 448


def test_the_report_counts_what_was_left_out_and_shows_some_of_it(base: addenda.Base, tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_text(
        '{"question": "tell: Lost keys cost?"}\n{"question": "Say: Lost keys cost?"}\n'
    )
    (tmp_path / "own.jsonl").write_text(
        '{"question": "What is the boat house key behind?", "answer": "The blue door."}\n'
        '{"messages": [{"role": "user", "content": "Is Zanzibar far?"}, {"role": "assistant", "content": "Yes, quite."}]}\n'
        '{"question": "Say: Lost keys cost?", "answer": "Held out, and kept all the same."}\n'
    )
    out = tmp_path / "s"
    report = study(
        base, DOCUMENT, out=out, questions=tmp_path / "own.jsonl", held_out=tmp_path / "held.jsonl", gain=False, **KINDS
    )
    assert report.dropped["held out"] == 1
    assert report.samples["held out"][0][1] == "Lost keys cost 30 euros each."
    assert report.kinds["own"] == 3
    assert report.made == report.exercises - 3 + sum(report.dropped.values())
    own = [record for record in load_study(out).records if record["kind"] == "own"]
    keys = next(one for one in load_study(out).chunks.values() if "Keys" in one.headings)
    assert [record["chunk"] for record in own] == [keys.id, None, None]
    told = str(report)
    assert "it asks what is held out: " in told
    assert f"{report.exercises} exercises from 3 chunks" in told
    assert json.loads((out / "report.json").read_text())["kinds"] == report.kinds


class Killed(BaseException):
    """As if the process had been killed."""


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_study_that_is_killed_goes_on_to_the_same_bits(
    base: addenda.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed in an answer or a score, half of which is written."""
    monkeypatch.setattr("addenda.teaching.base_teacher.ROWS", 4)
    monkeypatch.setattr("addenda.teaching.gain.GROUP", 4)
    monkeypatch.setattr("addenda.teaching.gain.BY_CHANCE", 1.0)  # random weights gain nothing
    whole = study(base, DOCUMENT, out=tmp_path / "whole", **KINDS)
    assert len(Store(tmp_path / "whole/work/teacher.jsonl").found) > 8
    assert len(Store(tmp_path / "whole/work/scores.jsonl").found) > 16
    add, calls = Store.add, [0]

    def dying(self: Store, results: Any) -> None:
        calls[0] += 1
        if calls[0] == 2 * moment:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                file.write(json.dumps({"key": "half"}).encode()[:9])
            raise Killed
        add(self, results)

    monkeypatch.setattr(Store, "add", dying)
    with pytest.raises(Killed):
        study(base, DOCUMENT, out=tmp_path / "s", **KINDS)
    monkeypatch.setattr(Store, "add", add)
    assert not (tmp_path / "s" / "study.jsonl").exists()
    with pytest.raises(AddendaError, match="interrupted: the same call with resume=True goes on"):
        study(base, DOCUMENT, out=tmp_path / "s", **KINDS)
    with pytest.raises(AddendaError, match="begun with other seed"):
        study(base, DOCUMENT, out=tmp_path / "s", resume=True, seed=1, **KINDS)
    report = study(base, DOCUMENT, out=tmp_path / "s", resume=True, **KINDS)
    assert files(tmp_path / "s") == files(tmp_path / "whole")
    assert (report.kinds, report.dropped, report.margin) == (whole.kinds, whole.dropped, whole.margin)


def test_a_seed_gives_the_same_set_and_another_seed_another(base: addenda.Base, tmp_path: Path, whole: Path) -> None:
    study(base, DOCUMENT, out=tmp_path / "same", gain=False, **KINDS)
    study(base, DOCUMENT, out=tmp_path / "other", gain=False, seed=1, **KINDS)
    assert files(tmp_path / "same") == files(whole)
    assert files(tmp_path / "other") != files(whole)


def test_a_finished_study_is_read_and_what_was_edited_stays(base: addenda.Base, tmp_path: Path) -> None:
    report = study(base, DOCUMENT, out=tmp_path / "s", gain=False, **KINDS)
    with pytest.raises(AddendaError, match="holds a finished study"):
        study(base, DOCUMENT, out=tmp_path / "s", gain=False, **KINDS)
    lines = (tmp_path / "s" / "study.jsonl").read_text().splitlines()
    (tmp_path / "s" / "study.jsonl").write_text(lines[0] + "\n")
    again = study(base, DOCUMENT, out=tmp_path / "s", gain=False, resume=True, **KINDS)
    assert again == report
    assert len(load_study(tmp_path / "s").records) == 1


def test_what_a_teacher_said_in_an_earlier_study_is_not_asked_again(
    base: addenda.Base, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = BaseTeacher.answer

    def counted(self: BaseTeacher, asks: Any, known: Any, keep: Any) -> None:
        asked.append(len(asks) - len(known))
        answer(self, asks, known, keep)

    monkeypatch.setattr(BaseTeacher, "answer", counted)
    changed = {"club.md": HANDBOOK.replace("30 euros", "31 euros")}
    report = study(base, changed, out=tmp_path / "s", gain=False, earlier=whole, **KINDS)
    assert sum(asked) < report.asked / 2
    assert "31 euros" in (tmp_path / "s" / "study.jsonl").read_text()
    before, after = load_study(whole), load_study(tmp_path / "s")
    keys = {one.id for one in before.chunks.values() if "Keys" in one.headings}
    assert set(before.chunks) - set(after.chunks) == keys


def test_a_base_without_a_chat_template_has_questions_and_answers(tmp_path: Path) -> None:
    base = small(template=False)
    study(base, DOCUMENT, out=tmp_path / "s", **KINDS)
    for record in load_study(tmp_path / "s").records:
        assert record["prompt"].startswith("Question: ")
        assert record["prompt"].endswith("\nAnswer:")
        assert record["completion"].startswith(" ")
        assert isinstance(record["gain"], float)


def test_answers_of_a_base_that_reads_badly_are_not_taken(base: addenda.Base, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(study_work, "reading", lambda *_: study_work.Reading(5, 10))
    report = study(base, DOCUMENT, out=tmp_path / "a", gain=False, **KINDS)
    assert set(report.kinds) == {"told", "wanted"}
    assert "gave 5 of 10 answers that stood in a text in front of it: no answer was taken" in str(report)
    monkeypatch.undo()  # as it is measured
    report = study(base, DOCUMENT, out=tmp_path / "b", gain=False, **KINDS)
    assert set(report.kinds) == {"told"}
    assert report.reading is not None
    assert (report.reading["right"], report.reading["asked"]) == (0, 9)
    assert report.asked == 0


def test_a_plan_tells_what_will_be_done_and_changes_nothing(base: addenda.Base, tmp_path: Path) -> None:
    plan = plan_study(base, DOCUMENT, **KINDS)
    assert (len(plan.chunks), len(plan.mined), len(plan.asks)) == (3, 9, 12)
    assert "1 document, 3 chunks, 9 exercises mined" in str(plan)
    assert "is asked 12 times, if it reads well enough" in str(plan)
    assert plan.said_tokens == 12 * 6
    assert plan.seconds > 0


def test_the_base_is_asked_and_scored_bare(base: addenda.Base, tmp_path: Path, whole: Path) -> None:
    base.new("on", addenda.LoRA(rank=4), seed=0)
    try:
        with torch.no_grad():
            for parameter in base.modules["on"].parameters():
                parameter.add_(torch.randn(parameter.shape))
        with base.using("on"):
            study(base, DOCUMENT, out=tmp_path / "s", gain=False, **KINDS)
    finally:
        base.unplug("on")
    assert files(tmp_path / "s") == files(whole)


def test_a_full_disk_is_told_in_a_sentence_and_loses_nothing(
    base: addenda.Base, tmp_path: Path, monkeypatch: Any
) -> None:
    import os

    sync, calls = os.fsync, [0]

    def full(handle: int) -> None:
        calls[0] += 1
        if calls[0] > 2:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("addenda.teaching.base_teacher.ROWS", 4)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        study(base, DOCUMENT, out=tmp_path / "s", gain=False, **KINDS)
    monkeypatch.setattr(os, "fsync", sync)
    assert len(Store(tmp_path / "s/work/teacher.jsonl").found) == 4
    study(base, DOCUMENT, out=tmp_path / "s", gain=False, resume=True, **KINDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chunk_tokens": 3}, "'chunk_tokens' must be a whole number from 32"),
        ({"exercises": ["nothing"]}, "no exercise is called 'nothing'"),
        ({"exercises": []}, "at least one"),
        ({"chunks": 3}, "study has no setting 'chunks'.*did you mean 'chunk_tokens'"),
        ({"seed": -1}, "seed is a whole number"),
        ({"teacher": "localhost:80"}, "a teacher is the address of a chat endpoint"),
        ({"questions": "no.jsonl"}, "there is no file 'no.jsonl'"),
        ({"held_out": "no.jsonl"}, "there is no file 'no.jsonl'"),
        ({"out": None}, "out is the folder of the study"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    base: addenda.Base, tmp_path: Path, given: Any, message: str
) -> None:
    with pytest.raises(AddendaError, match=message):
        study(base, DOCUMENT, **({"out": tmp_path / "s"} | KINDS | given))
    assert not (tmp_path / "s").exists()


def test_a_folder_of_something_else_is_left_as_it_is(base: addenda.Base, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(AddendaError, match=r"holds what is not a study's \(precious.txt\)"):
        study(base, DOCUMENT, out=tmp_path, **KINDS)
    with pytest.raises(AddendaError, match="is a file"):
        study(base, DOCUMENT, out=tmp_path / "precious.txt", **KINDS)


EDITS = {
    "no JSON": ("{nothing", "study.jsonl, line 1: not JSON"),
    "no answer": (
        '{"messages": [{"role": "user", "content": "x"}], "chunk": null}',
        "line 1: 'messages' end with what the assistant",
    ),
    "no conversation": ('{"kind": "x"}', "line 1: no 'messages', nor 'question' with 'answer'; fields found: kind"),
    "no such chunk": ('{"question": "a", "answer": "b", "chunk": "x"}', "line 1: no chunk is called 'x'"),
    "nothing": ("", "is empty"),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_set_that_is_broken_says_where(tmp_path: Path, whole: Path, what: str) -> None:
    line, message = EDITS[what]
    (tmp_path / "chunks.jsonl").write_bytes((whole / "chunks.jsonl").read_bytes())
    (tmp_path / "study.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        load_study(tmp_path)
    with pytest.raises(DataError, match="holds no study set: study.jsonl is missing"):
        load_study(tmp_path / "none")


def test_what_is_kept_and_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"key": "a", "said": "x"}\nnothing\n{"key": "b", "said": "y"}\n{"key": "c", "sa')
    with pytest.raises(FileError, match="line 2: is damaged; remove the line"):
        Store(tmp_path / "s.jsonl")
    (tmp_path / "s.jsonl").write_text('{"key": "a", "said": "x"}\n{"key": "c", "sa')
    store = Store(tmp_path / "s.jsonl")
    store.add({"b": {"said": "y"}})
    assert Store(tmp_path / "s.jsonl").found == {"a": {"said": "x"}, "b": {"said": "y"}}


def test_a_cut_answer_is_of_use_up_to_its_last_sentence(base: addenda.Base, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(BaseTeacher, "_said", lambda *_: Said("Which boat key is", cut=True))
    report = study(base, DOCUMENT, out=tmp_path / "s", gain=False, **KINDS)
    assert report.unusable == report.asked == 12
    assert set(report.kinds) == {"told"}
    monkeypatch.setattr(BaseTeacher, "_said", lambda *_: Said("Which boat key is it? It is the", cut=True))
    report = study(base, DOCUMENT, out=tmp_path / "t", gain=False, **KINDS)
    assert "which boat key is it? adults" in (tmp_path / "t" / "study.jsonl").read_text().lower()
