"""Three settings: what the text in the window gives, what an old snapshot cannot know, and statistics that are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import addenda
from addenda import tiny
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking import three_settings as settings
from addenda.measuring.asking.certificate import rolled_back
from addenda.measuring.asking.facts import biographies
from addenda.measuring.asking.options import Option
from addenda.measuring.asking.retrieval import Passages, with_passages
from addenda.measuring.asking.three_settings import three_settings
from addenda.measuring.measures.settings import InThreeSettings
from addenda.plug.scoring import score
from addenda.telling.intervals import Interval, holm
from pico import pico, pico_tokenizer

pytest.importorskip("bm25s")
FACTS = biographies(12, phrasings=1)


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    """A pico model that reads whole words: retrieved passages are cut by tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    return addenda.attach(pico("llama", vocab_size=len(tokenizer), max_position_embeddings=1024), tokenizer)


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
    people = [fact.subject for fact in FACTS.told]
    assert changes["offline", "online"].p >= 2 / 2 ** len(set(people))  # twelve people, not sixty questions
    same = three_settings(base, FACTS)
    assert same.stale is None
    assert {(c.first, c.second): c for c in same.changes}["offline", "online"].difference.value == 0.0
    assert same.reliance == pytest.approx(same.shares["closed"].value / same.shares["oracle"].value)
    found.certificate.save(tmp_path / "certificate.json")
    kept = json.loads((tmp_path / "certificate.json").read_text())
    assert set(kept) == {"target", "window", "method", "verification", "regression", "rollback", "audit"}
    assert kept["audit"]["fingerprint"] == base.fingerprint
    held = sum(a.answer == b.answer for a, b in zip(FACTS.told, later.told, strict=True))
    assert kept["window"]["hold since the snapshot"] == held
    assert kept["window"]["hold since some time after it"] == len(FACTS.told) - held > 0
    assert kept["verification"]["changes"]["online less closed"]["p"] < 0.05
    assert kept["regression"] == {}  # nothing acts
    assert kept["rollback"]["holds"] is True


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
    assert list(base.modules) == ["people"]
    base.unplug("people")
    assert on.shares["closed"].value == 1.0 > off.shares["closed"].value
    assert on.changes[-1].difference.value == off.changes[-1].difference.value == 0.0
    assert on.certificate.method == "LoRA 'people' at 1"
    assert on.certificate.audit["canary"] == "people: fresh"
    regression = on.certificate.regression
    assert set(regression) == {"loss added on general_valid, nats per token", "untold facts answered as before"}
    assert regression["untold facts answered as before"]["value"] == 1.0  # fresh: it moves nothing
    assert regression["loss added on general_valid, nats per token"] == pytest.approx(
        {"value": 0.0, "low": 0.0, "high": 0.0, "n": regression["loss added on general_valid, nats per token"]["n"]}
    )


def test_a_loud_module_is_told_in_the_certificate(base: addenda.Base) -> None:
    loud(base.new("loud", addenda.LoRA(4)))
    whole = three_settings(base, FACTS, "loud", questions=2)
    found = whole.certificate
    given = three_settings(
        base, FACTS, "loud", questions=2, regression={"loss added on mine": Interval(0.1, 0.0, 0.2, 9)}
    ).certificate.regression
    bare = score(base, "general_valid", tokens=4_000)
    with base.using("loud"):
        change = score(base, "general_valid", tokens=4_000).minus(bare)
    base.unplug("loud")
    added = found.regression["loss added on general_valid, nats per token"]
    moved = {"value": change.nats, "low": change.low, "high": change.high, "n": change.documents}
    assert added == pytest.approx(moved)
    assert abs(added["value"]) > 1e-3
    assert added["n"] > 1
    assert found.regression["untold facts answered as before"]["value"] < 1
    assert found.rollback["holds"] is True
    (table,) = InThreeSettings().rows(whole, "tiny", "m")
    assert table.rows[-1][1] == "yes"
    assert given.keys() == {"loss added on mine", "untold facts answered as before"}
    assert given["loss added on mine"] == {"value": 0.1, "low": 0.0, "high": 0.2, "n": 9}


def loud(module: addenda.KnowledgeModule) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.3)


def test_a_rollback_is_tried_and_one_that_fails_is_found_out() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    kinds = {"b": addenda.LoRA(2), "a": addenda.NeutralResidues(width=8)}
    for name, kind in kinds.items():
        loud(base.new(name, kind))
    modules = list(base.modules.values())
    ids = torch.arange(8)[None]
    base.use(b=0.5)
    with torch.no_grad():
        before = base.model(ids).logits
        found = rolled_back(base)
        after = base.model(ids).logits
    assert (found["holds"], found["how"]) == (True, "unplug b, a")
    assert found["fingerprint"] == found["fingerprint when attached"] == base.fingerprint
    assert found["sha256 of the probe's logits"] == found["the same before, everything off"]
    assert list(base.modules.values()) == modules
    assert base.selection.everyone == {"b": 0.5}
    assert torch.equal(before, after)
    with torch.no_grad():
        base.model.get_input_embeddings().weight[3] += 1.0
    assert rolled_back(base)["holds"] is False  # the base is no longer what was attached to
    open_ = base.trainable("a")
    with pytest.raises(AddendaError, match=r"being trained \(a\)"):
        rolled_back(base)
    with pytest.raises(AddendaError, match=r"being trained \(a\)"):
        three_settings(base, FACTS, "b")
    open_.close()
    assert list(base.modules.values()) == modules


def test_a_hook_that_is_left_behind_is_no_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: unplugging leaves something in the base that acts once the module is gone."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    loud(base.new("a", addenda.LoRA(2)))
    unplug = addenda.Base.unplug

    def leaking(self: addenda.Base, name: str) -> None:
        unplug(self, name)
        self.model.lm_head.register_forward_hook(lambda module, args, out: out + 1e-3)

    monkeypatch.setattr(addenda.Base, "unplug", leaking)
    found = rolled_back(base)
    assert found["fingerprint"] == found["fingerprint when attached"]
    assert found["holds"] is False


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
