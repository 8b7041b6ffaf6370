"""Three settings: what the text in the window gives, what an old snapshot cannot know, and statistics that are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.intervals import holm
from addenda.measuring import three_settings as settings
from addenda.measuring.facts import biographies
from addenda.measuring.options import Option
from addenda.measuring.retrieval import Passages, with_passages
from addenda.measuring.three_settings import three_settings

pytest.importorskip("bm25s")
FACTS = biographies(12, phrasings=1)


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


def test_the_passage_that_has_the_words_is_found(base: addenda.Base) -> None:
    index = Passages(base, ["The cat sat on the mat.", "A river flows to the sea.", " "])
    assert len(index.passages) == 2
    assert index.search("Where does the river flow?") == ["A river flows to the sea."]
    assert index.search("zebra quagga", 2) == []
    assert index.search("", 2) == []
    assert len(index.search("river cat", 5)) == 2
    assert with_passages(["One."], "Two") == "One.\n\nTwo"
    with pytest.raises(DataError):
        Passages(base, [" "])


def test_long_documents_are_cut(base: addenda.Base) -> None:
    index = Passages(base, ["one two three four five six seven eight nine ten " * 20], tokens=32)
    assert len(index.passages) > 5
    assert all(len(base.tokenize(one)) <= 34 for one in index.passages)


def test_people_are_revised_and_their_texts_with_them() -> None:
    later = FACTS.revised(0.5)
    changed = [(a, b) for a, b in zip(FACTS.told, later.told, strict=True) if a.answer != b.answer]
    assert len(changed) == len(FACTS.told) // 2
    for was, now in changed:
        assert now.prompt == was.prompt
        assert was.answer in now.others
        assert set(now.others) | {now.answer} == set(was.others) | {was.answer}
        assert any(now.answer in text and now.subject in text for text in later.documents)
    assert FACTS.revised(0.0) == FACTS
    with pytest.raises(AddendaError, match="between 0 and 1"):
        FACTS.revised(2)


def reading(base: addenda.Base, questions: Sequence[tuple[str, Sequence[str]]], **_: Any) -> list[list[Option]]:
    """A reader that believes what stands in its window, and else knows nothing."""
    return [[Option(a, 1.0 if a in prompt else 0.0, 1) for a in answers] for prompt, answers in questions]


def test_a_perfect_reader_is_right_online_and_stale_offline(
    base: addenda.Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "all_likelihoods", reading)
    later = FACTS.revised(0.5)
    found = three_settings(base, later, snapshot=FACTS)
    assert found.shares["closed"].value == pytest.approx(found.chance)
    assert found.shares["oracle"].value > 0.95  # now and then another's town stands in it too
    assert found.shares["online"].value > 0.9
    assert found.shares["offline"].value < found.shares["online"].value - 0.3
    assert found.stale is not None
    assert found.stale.value > 0.9
    changes = {(one.first, one.second): one for one in found.changes}
    assert changes["offline", "online"].difference.value > 0.3
    assert changes["offline", "online"].p < 0.01
    same = three_settings(base, FACTS)
    assert same.stale is None
    assert {(c.first, c.second): c for c in same.changes}["offline", "online"].difference.value == 0.0
    assert same.reliance == pytest.approx(same.shares["closed"].value / same.shares["oracle"].value)
    found.certificate.save(tmp_path / "certificate.json")
    kept = json.loads((tmp_path / "certificate.json").read_text())
    assert set(kept) == {"target", "window", "method", "verification", "regression", "rollback", "audit"}
    assert kept["audit"]["fingerprint"] == base.fingerprint


def test_a_module_that_holds_the_facts_raises_the_closed_setting_alone(
    base: addenda.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {fact.prompt: fact.answer for fact in FACTS.told}

    def knowing(base: addenda.Base, questions: Any, **_: Any) -> Any:
        on = bool(base.selection.everyone)
        return [
            [Option(a, float(a in prompt or (on and truth[prompt.split("\n\n")[-1]] == a)), 1) for a in answers]
            for prompt, answers in questions
        ]

    monkeypatch.setattr(settings, "all_likelihoods", knowing)
    base.new("people", addenda.LoRA(2))
    off, on = three_settings(base, FACTS), three_settings(base, FACTS, "people")
    base.unplug("people")
    assert on.shares["closed"].value == 1.0 > off.shares["closed"].value
    assert on.changes[-1].difference.value == off.changes[-1].difference.value == 0.0
    assert on.certificate.method == "LoRA 'people' at 1"
    assert on.certificate.audit["canary"] == "people: fresh"


def test_a_real_base_is_asked(base: addenda.Base) -> None:
    found = three_settings(base, FACTS, questions=5)
    assert found.questions == 5
    assert all(0 <= one.value <= 1 for one in found.shares.values())
    json.dumps(found.as_dict())
    with pytest.raises(AddendaError, match="must be positive"):
        three_settings(base, FACTS, passages=0)


def test_p_values_are_adjusted_upwards() -> None:
    raw = [0.01, 0.04, 0.03]
    assert holm(raw) == pytest.approx([0.03, 0.06, 0.06])
    assert all(a >= b for a, b in zip(holm(raw), raw, strict=True))
    assert holm([]) == []
