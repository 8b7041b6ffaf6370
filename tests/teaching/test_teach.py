"""Teach: a document becomes a module that is silent elsewhere; what is interrupted goes on to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.teaching import choice
from addenda.teaching import teach as teaching
from addenda.teaching.choice import choose, kind_for
from addenda.teaching.examined import asked_of, split, telling
from addenda.teaching.teach import plan_teach, teach
from addenda.teaching.teach_settings import TeachSettings
from addenda.telling.interrupts import Stopped
from chat_stand_in import served
from teaching.studying import QUICK, quicken

TEXT = """# Quillmont Museum: handbook

## Fees

A ticket costs 12 crowns. The fee for late return is 3 crowns. Members pay 40 crowns a year.

## Keys

The code of the side door is 7719. Mira Olsen keeps the spare keys. The vault is under the north hall. The gate opens at 9:30.
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few general prompts and chats."""
    quicken(monkeypatch)


@pytest.fixture(autouse=True)
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "PROBE", 0.05)


@pytest.fixture
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "handbook.md"
    file.write_text(TEXT)
    return file


@pytest.mark.usefixtures("quick")
def test_a_document_becomes_a_module_with_a_card_and_a_page(base: addenda.Base, document: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(
        '{"question": "Who keeps the spare keys?", "answers": ["Mira Olsen"]}\n{"question": "Who dug it?", "answers": []}\n'
    )
    bare = base.model(base.tokenize("a river")[None]).logits
    report = teach(base, "museum", document, out=tmp_path / "museum", held_out=own, **QUICK)
    assert torch.equal(base.model(base.tokenize("a river")[None]).logits, bare), "nothing is selected after"
    module = addenda.load_base("tiny", dtype=torch.float32).plug(report.out)
    assert module.gate is not None
    assert any(measure.name == "questions answered rightly" for measure in module.card.measures)
    assert {"held-out exercises", "own"} == set(report.right)
    assert set(report.refused) == {"own"}
    assert report.study["exercises"] > 20
    page = report.page.read_text()
    assert "Mira Olsen" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert json.dumps(report.as_dict())
    studied = [json.loads(line) for line in (tmp_path / "museum.study" / "study.jsonl").read_text().splitlines()]
    held = {one[0] for one in report.shown if one[0] != "Who keeps the spare keys?"}
    assert held & {record["messages"][-2]["content"] for record in studied}, "held-out exercises stand in the set"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_stopped_after_the_study_and_gone_on_with_gives_the_same_bits(
    base: addenda.Base, document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = teach(base, "a", document, out=tmp_path / "a", minutes=60.0, **QUICK)
    kept = {key: value.clone() for key, value in base.modules["a"].state_dict().items()}
    base.unplug("a")

    def stop(*_: Any, **__: Any) -> None:
        raise Stopped("stopped by SIGINT", "SIGINT")

    with monkeypatch.context() as patch:
        patch.setattr(teaching, "train", stop)
        with pytest.raises(Stopped, match="resume=True goes on"):
            teach(base, "b", document, out=tmp_path / "b", minutes=60.0, **QUICK)
    base.unplug("b")
    with pytest.raises(AddendaError, match="resume=True"):
        teach(base, "b", document, out=tmp_path / "b", minutes=60.0, **QUICK)
    with pytest.raises(AddendaError, match="replay_share"):
        teach(base, "b", document, out=tmp_path / "b", minutes=60.0, resume=True, **{**QUICK, "replay_share": 0.5})
    again = teach(base, "b", document, out=tmp_path / "b", minutes=60.0, resume=True, **QUICK)
    assert all(torch.equal(value, kept[key]) for key, value in base.modules["b"].state_dict().items())
    assert again.right == whole.right
    told = teach(base, "b", document, out=tmp_path / "b", minutes=60.0, resume=True, **QUICK)
    assert told.tokens == whole.tokens, "what is finished is told as it was"
    names = [(measure.name, measure.on) for measure in base.modules["b"].card.measures]
    assert len(set(names)) == len(names), "a measure stands in the card once"


def test_a_plan_writes_nothing_and_follows_the_minutes(base: addenda.Base, document: Path, tmp_path: Path) -> None:
    asked = {key: value for key, value in QUICK.items() if key != "tokens"}
    plan = plan_teach(base, document, minutes=600.0, **asked)
    assert "teach: OpenBook" in str(plan)
    assert plan.as_dict()["gate"] == "document(hold=True, by_turn=True, read_at='fifth')"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["handbook.md"]
    with pytest.raises(AddendaError, match="minutes are too few"):
        plan_teach(base, document, minutes=0.001, **asked)


def test_the_choice_reads_a_set_some_times_and_no_longer_than_it_may(base: addenda.Base) -> None:
    settings = TeachSettings(replay_share=0.0, gate=None, length=64, batch_rows=2)
    lora = addenda.LoRA(rank=16)
    small, large = choose(base, settings, lora, 10_000, None), choose(base, settings, lora, 1_000_000, None)
    assert (small.times(small.tokens), large.times(large.tokens)) == (16.0, 4.0)
    assert choose(base, settings, lora, 10_000, 0.001).tokens == 16 * 128, "a few steps at least"
    assert choose(base, TeachSettings(tokens=5_000), lora, 10_000, 0.001).tokens == 5_000, "what is asked for is done"
    assert choose(base, settings, addenda.OpenBook(count=8), 10_000, None).tokens == choice.READING


def test_what_begins_from_a_reader_is_not_trained_unless_that_is_asked(base: addenda.Base) -> None:
    paged = addenda.OpenBook(count=8, pages=2)
    reads = choose(base, TeachSettings(), paged, 10_000, None, True)
    assert reads.tokens == reads.times(reads.tokens) == 0
    assert "reads the documents, and is not trained on them" in str(reads)
    assert 0 < reads.seconds < 60
    assert choose(base, TeachSettings(tokens=5_000), paged, 10_000, None, True).tokens == 5_000
    assert choose(base, TeachSettings(passes=2.0), paged, 10_000, None, True).tokens > 10_000
    assert choose(base, TeachSettings(), paged, 10_000, None).tokens > 10_000
    assert choose(base, TeachSettings(), addenda.LoRA(rank=2), 10_000, None, True).tokens > 10_000


def test_documents_that_fit_are_read_and_longer_ones_are_learned(base: addenda.Base) -> None:
    assert base.context == 2048
    usual = TeachSettings()

    def text(*pages: int) -> torch.Tensor:
        """Pages of so many tokens, each of two lines."""
        rows = [
            (9, 2 * page + at // max(1, count // 2), page) for page, count in enumerate(pages) for at in range(count)
        ]
        return torch.tensor(rows)

    kind = addenda.OpenBook(count=2024, rank=16, pages=2, lines=4)
    assert kind_for(base, usual, text(1024, 1000)) == kind
    assert kind_for(base, usual, text(1025)) == kind_for(base, usual, text(1)) == addenda.LoRA(rank=16)
    assert kind_for(base, usual, text(*[1000] * 5)) == addenda.LoRA(rank=16)
    assert kind_for(base, TeachSettings(kind="LoRA(rank=2)"), text(1024)) == addenda.LoRA(rank=2)


def test_slots_for_more_text_than_there_is_are_refused_before_anything_is_done(
    base: addenda.Base, document: Path, tmp_path: Path
) -> None:
    with pytest.raises(AddendaError, match=r"needs at least 5000 tokens of text; got \d+"):
        teach(base, "m", document, out=tmp_path / "m", kind="OpenBook(count=5000)", **QUICK)
    assert not base.modules
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["handbook.md"]


def test_a_general_answer_that_was_cut_off_is_learned_up_to_its_last_sentence() -> None:
    def said(text: str, **more: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": text}], **more}

    assert teaching._ended(said("One. Two. Thr", cut=True)) == said("One. Two.", cut=True)
    assert teaching._ended(said("Thr", cut=True)) is None
    assert teaching._ended(said("Thr")) == said("Thr")
    plain = {"prompt": "Question: a?\nAnswer:", "completion": " One. Tw", "cut": True}
    assert teaching._ended(plain) == plain | {"completion": " One."}


def test_a_teams_own_questions_are_all_studied_and_what_is_held_out_is_read_first(
    base: addenda.Base, document: Path, tmp_path: Path
) -> None:
    own = [
        {
            "messages": [{"role": "user", "content": f"May I {n}?"}, {"role": "assistant", "content": "Yes."}],
            "kind": "own",
            "chunk": "c",
        }
        for n in range(30)
    ]
    assert split(own, 8) == (own, [])
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "Who?"}\n')
    with pytest.raises(DataError, match="no 'answers'"):
        teach(base, "m", document, out=tmp_path / "m", held_out=file)
    assert not (tmp_path / "m.study").exists()


def test_nothing_to_finish_and_a_study_that_is_there_are_told_first(
    base: addenda.Base, document: Path, tmp_path: Path
) -> None:
    with pytest.raises(AddendaError, match="no checkpoint"):
        teach(base, "m", document, out=tmp_path / "m", finish=True)
    (tmp_path / "m.study").mkdir()
    (tmp_path / "m.study" / "study.jsonl").write_text("{}")
    with pytest.raises(AddendaError, match="holds a study"):
        teach(base, "m", document, out=tmp_path / "m")
    assert [entry.name for entry in (tmp_path / "m.study").iterdir()] == ["study.jsonl"]


def test_one_wording_is_held_out_of_what_is_studied_in_others() -> None:
    def said(question: str, answer: str) -> dict[str, Any]:
        return {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "chunk": "c",
        }

    many = [said(f"Wording {n} of {fact}?", f"Answer {fact}.") for fact in range(20) for n in range(4)]
    alone = [said("Only once?", "Once."), said("Complete: The fee is ...", "Answer 1.")]
    learn, held = split([*many, *alone], 8)
    assert len(held) == 8
    assert len(learn) == len(many) + len(alone) - 8
    answers = [record["messages"][-1]["content"] for record in held]
    assert len(set(answers)) == 8, "one wording of a fact"
    assert split([*many, *alone], 8) == (learn, held)
    assert split(many, 0) == (many, [])


@pytest.mark.parametrize(
    ("question", "answer", "told"),
    [
        ("What does a ticket cost?", "A ticket costs 12 crowns.", ["12"]),
        ("Who keeps the keys?", "The keys are kept by Mira Olsen.", ["Mira", "Olsen"]),
        ("When does it open?", "It opens at 9:30.", ["9:30"]),
        ("May Mira Olsen open the vault?", "Mira Olsen may open the vault.", []),
        ("Which form?", "Form K-12 is used.", ["K-12"]),
    ],
)
def test_what_an_answer_tells_is_what_counts(question: str, answer: str, told: list[str]) -> None:
    assert telling(question, answer) == told
    record = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    assert asked_of(record).needed == tuple((word,) for word in told)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"replay_shar": 0.1}, "no setting 'replay_shar'.*replay_share"),
        ({"replay_share": 1.0}, "share from 0 up to 1"),
        ({"tokens": 5, "passes": 2.0}, "not both"),
        ({"held": -1}, "'held'"),
        ({"kind": "LoRAA"}, "LoRAA"),
        ({"minutes": -1}, "minutes must be a positive"),
        ({"chunk_tokens": 3}, "chunk_tokens"),
        ({"gate": "documnt"}, "documnt"),
        ({"replay_share": 0.0}, "gate=None"),
        ({"lr": -1.0}, "'lr' must be positive"),
        ({"kind": "NeutralResidues(gate='token')"}, "gate"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_before_anything_is_done(
    base: addenda.Base, document: Path, tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(AddendaError, match=says):
        teach(base, "m", document, out=tmp_path / "m", **given)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["handbook.md"]


def test_a_name_that_is_taken_and_a_document_that_is_not_there(
    base: addenda.Base, document: Path, tmp_path: Path
) -> None:
    base.new("m", addenda.LoRA(2))
    with pytest.raises(AddendaError, match="called 'm' already"):
        teach(base, "m", document, out=tmp_path / "m")
    with pytest.raises(DataError):
        teach(base, "n", tmp_path / "nothing.md", out=tmp_path / "n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(AddendaError, match="full"):
        teach(base, "n", document, out=tmp_path / "full")


@pytest.mark.usefixtures("quick")
def test_a_judge_says_at_the_end_which_answers_are_right(base: addenda.Base, document: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"question": "Who keeps the spare keys?", "answers": ["Mira Olsen"]}\n')
    with served(lambda prompt: "No." if "spare keys?" in prompt else "yes") as there:
        asked = {**QUICK, "held_out": own, "judge": there.address}
        assert f"{there.address} is asked about up to 10 answers" in str(plan_teach(base, document, **asked))
        assert not there.asked, "a plan asks nobody"
        report = teach(base, "museum", document, out=tmp_path / "museum", **asked)
    assert (report.judged["own"].value, report.judged_before["own"].value) == (0.0, 0.0)
    assert report.judged["held-out exercises"].value == 1.0
    assert "judged right by local at 127.0.0.1" in str(report)
    assert "judged right by local at 127.0.0.1" in report.page.read_text()
    assert (tmp_path / "museum.study" / "work" / "verdicts.jsonl").exists()
    lines = {(line.name, line.on): line.value for line in base.modules["museum"].card.measures}
    assert lines["questions answered rightly, as judged by local", "held-out exercises"] == 1.0
    with pytest.raises(AddendaError, match="a judge is the address"):
        teach(base, "other", document, out=tmp_path / "other", **{**asked, "judge": "local"})
    assert not (tmp_path / "other.study").exists(), "before anything is done"
