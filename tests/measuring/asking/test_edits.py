"""Edits: read from files, asked in other words, and scored: an oracle gets all, the base what it holds, modules their change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking import edits as editing
from addenda.measuring.asking.edits import load_edits, score_edits
from addenda.measuring.asking.options import Option

RECORDS = [
    {
        "subject": subject, "relation_id": "P30", "prompt": f"{subject} {words} of", "target_true": "Asia",
        "target_new": "Europe", "neighborhood_prompts": ["Mount Fuji belongs to the continent of"],
    }
    for subject, words in (("Mount Aso", "is on the continent"), ("Lake Biwa", "belongs to the continent"))
]  # fmt: skip


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "edits.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


def test_other_phrasings_of_a_relation_are_paraphrases(file: Path) -> None:
    one, other = load_edits(file)
    assert one.prompt == "Mount Aso is on the continent of"
    assert one.paraphrases == ("Mount Aso belongs to the continent of",)
    assert other.paraphrases == ("Lake Biwa is on the continent of",)
    assert one.neighbours == ("Mount Fuji belongs to the continent of",)
    assert one.statement == "Mount Aso is on the continent of Europe."
    assert len(load_edits(file, limit=1)) == 1


def test_without_a_relation_there_are_no_other_phrasings(tmp_path: Path) -> None:
    lines = [
        {"subject": "Bob", "prompt": "Bob plays the", "target_true": "flute", "target_new": "drum"},
        {"subject": "Rome", "prompt": "Rome is the capital of", "target_true": "Italy", "target_new": "Spain"},
    ]
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert [edit.paraphrases for edit in load_edits(tmp_path / "edits.jsonl")] == [(), ()]


def test_files_that_hold_no_edits_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_edits(tmp_path / "absent.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no edit"):
        load_edits(tmp_path / "empty.jsonl")
    (tmp_path / "other.jsonl").write_text('{"subject": "x", "prompt": "x is"}\n')
    with pytest.raises(DataError, match="line 1: 'target_true' is not a text"):
        load_edits(tmp_path / "other.jsonl")
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(DataError, match="line 1: not JSON"):
        load_edits(tmp_path / "broken.jsonl")


def test_an_oracle_gets_all_and_a_constant_half(
    base: addenda.Base, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = load_edits(file)

    def answering(nats: Any) -> Any:
        return lambda base, questions, **_: [[Option(a, nats(a), 1) for a in answers] for _, answers in questions]

    monkeypatch.setattr(editing, "all_likelihoods", answering(lambda a: 0.0 if a == "Europe" else -1.0))
    found = score_edits(base, edits)
    assert found.reliability_before.value == 1.0
    assert found.generality_before is not None
    assert found.generality_before.value == 1.0
    assert found.reliability is None
    monkeypatch.setattr(editing, "all_likelihoods", answering(lambda a: 0.0))
    assert score_edits(base, edits).reliability_before.value == 0.5
    with pytest.raises(AddendaError, match="no edit"):
        score_edits(base, [])


@pytest.mark.slow
def test_a_module_written_from_the_statements_changes_them(base: addenda.Base, file: Path) -> None:
    edits = load_edits(file)
    base.new("fresh", addenda.LoRA(2))
    same = score_edits(base, edits, "fresh")
    base.unplug("fresh")
    assert same.locality is not None
    assert same.locality.value == 1.0
    assert same.reliability == same.reliability_before
    corpus = [edit.statement for edit in edits] * 20
    base.new("edited", addenda.LoRA(8))
    addenda.train(base, "edited", corpus=corpus, tokens=4_000, lr=1e-2, length=64, batch_rows=8, log=False)
    found = score_edits(base, edits, {"edited": 1.0})
    base.unplug("edited")
    assert found.reliability is not None
    assert found.reliability.value == 1.0
    assert found.as_dict()["edits"] == 2
