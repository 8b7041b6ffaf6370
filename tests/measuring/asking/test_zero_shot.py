"""Zero-shot questions: a constant answer gets chance, an oracle all, and every set has the scores of its usual metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking import zero_shot as file
from addenda.measuring.asking.options import Option, all_likelihoods, likelihoods
from addenda.measuring.asking.zero_shot import fitting, paired, right, zero_shot
from addenda.tiny.asked import NORMED, SETS, Question, questions
from conformance.world import perturbed
from pico import pico, pico_tokenizer


@pytest.fixture
def base() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


@pytest.fixture(scope="module")
def tiny() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


def answered(monkeypatch: pytest.MonkeyPatch, nats: Any) -> None:
    """Every choice gets the nats that a function of question and choice says."""

    def said(base: Any, asked: Any, batch_tokens: int = 0) -> list[list[Option]]:
        return [[Option(one, nats(prompt, one), 3) for one in choices] for prompt, choices in asked]

    monkeypatch.setattr(file, "all_likelihoods", said)


def test_a_constant_answer_gets_chance_and_an_oracle_all(base: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions()
    gold = {(one.prompt, one.choices[one.gold]) for one in asked}
    answered(monkeypatch, lambda prompt, choice: -10.0)
    found = zero_shot(base, asked=asked)
    assert found.pooled.chance == pytest.approx((300 / 2 + 100 / 4) / 400, abs=0.01)  # a few of ARC have three or five
    for one in found.sets:
        if one.metric == "acc":  # by characters equal nats are no draw
            assert one.off.value == pytest.approx(one.chance), one.name
    answered(monkeypatch, lambda prompt, choice: -1.0 if (prompt, choice) in gold else -900.0)
    found = zero_shot(base, asked=asked)
    assert (found.pooled.off.value, found.pooled.off.n) == (1.0, 400)
    assert {(one.name, one.metric) for one in found.sets if one.usual} == {
        (name, "acc_norm" if name in NORMED else "acc") for name in SETS
    }
    answered(monkeypatch, lambda prompt, choice: -900.0 if (prompt, choice) in gold else -1.0)
    assert zero_shot(base, asked=asked).pooled.off.value == 0.0


def test_normed_scores_are_by_character_and_others_by_likelihood(monkeypatch: pytest.MonkeyPatch, base: Any) -> None:
    """The longer choice is less likely, and likelier for each of its characters."""
    asked = [Question(name, "which?", ("a" * 10, "b" * 100), 1) for name in ("piqa", "boolq")]
    answered(monkeypatch, lambda prompt, choice: -20.0 if len(choice) == 10 else -40.0)
    found = zero_shot(base, asked=asked)
    assert {(one.name, one.metric): one.off.value for one in found.sets} == {
        ("piqa", "acc"): 0.0, ("piqa", "acc_norm"): 1.0, ("boolq", "acc"): 0.0,
    }  # fmt: skip
    assert found.pooled.off.value == 0.5


def test_modules_off_and_on_are_paired_and_pooled(base: addenda.Base) -> None:
    asked = fitting(base, 12)
    off = right(base, asked)
    assert np.array_equal(off, right(base, asked)), "the bare base asked twice"
    perturbed(base, "m", "lora")
    with base.using("m"):
        on = right(base, asked)
    found = zero_shot(base, "m", asked)
    assert base.selection.everyone == {}
    assert found == paired(asked, off, on)
    assert found.pooled.on is not None
    assert found.pooled.change is not None
    assert found.pooled.change.value == pytest.approx(found.pooled.on.value - found.pooled.off.value)
    total = sum(one.questions * one.off.value for one in found.sets if one.usual)
    assert total / len(asked) == pytest.approx(found.pooled.off.value)
    assert found.pooled.change.low < found.pooled.change.value < found.pooled.change.high
    assert zero_shot(base, (), asked).pooled.on is None
    base.unplug("m")
    base.new("fresh", addenda.LoRA(2))
    same = zero_shot(base, "fresh", asked)
    assert same.pooled.change is not None
    assert (same.pooled.change.low, same.pooled.change.high) == (0.0, 0.0)


def test_answers_of_one_token_read_their_prompt_once(tiny: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yes and no are read off one row, with the nats they have alone."""
    from addenda.objectives.head import Head

    rows: list[int] = []
    hidden = Head.hidden
    monkeypatch.setattr(Head, "hidden", lambda self, ids, **kw: rows.append(len(ids)) or hidden(self, ids, **kw))
    asked = [(one.prompt, one.choices) for one in questions(6) if one.set in ("boolq", "piqa")]
    together = all_likelihoods(tiny, asked)
    assert sum(rows) == 6 * 2 + 6
    for (prompt, choices), options in zip(asked, together, strict=True):
        alone = [likelihoods(tiny, prompt, [choice])[0] for choice in choices]
        assert [one.nats for one in options] == pytest.approx([one.nats for one in alone], abs=1e-3)
        assert [(one.text, one.tokens) for one in options] == [(one.text, one.tokens) for one in alone]


def test_questions_fit_the_context(base: addenda.Base) -> None:
    assert base.context == 256
    found = fitting(base, 5)
    assert {one.set for one in found} <= set(SETS)
    assert 5 < len(found) <= 20
    for one in found:
        assert max(len(base.tokenize(f"{one.prompt} {choice}")) for choice in one.choices) <= 256
    assert fitting(addenda.load_base("tiny"), 100) == questions()
    monkey = addenda.attach(pico("llama", max_position_embeddings=16), pico_tokenizer())
    with pytest.raises(DataError, match="no question that fits the base's context of 16"):
        zero_shot(monkey)


def test_mistakes_are_told(base: addenda.Base) -> None:
    with pytest.raises(AddendaError, match="at least one question"):
        zero_shot(base, each=0)
    with pytest.raises(AddendaError, match="no tokenizer"):
        zero_shot(addenda.attach(pico("qwen3")))
