"""Options: likelihoods are those of the model's own tokens, and F1 is SQuAD's."""

from __future__ import annotations

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking.options import f1, first_wins, likelihoods
from pico import pico, pico_tokenizer

PROMPT = "Question: where does the heart pump the blood?\nAnswer:"
ANSWERS = ("to the lungs", "away", "to every cell of the whole body and back again")


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


@torch.no_grad()
def by_hand(base: addenda.Base, prompt: str, answer: str) -> tuple[float, int]:
    head, whole = base.tokenize(prompt), base.tokenize(f"{prompt} {answer}")
    logs = base.model(whole[None]).logits[0].log_softmax(-1)
    each = [float(logs[at - 1, whole[at]]) for at in range(len(head), len(whole))]
    return sum(each), len(each)


def test_each_answer_has_the_likelihood_it_has_alone(base: addenda.Base) -> None:
    for found, answer in zip(likelihoods(base, PROMPT, ANSWERS), ANSWERS, strict=True):
        nats, tokens = by_hand(base, PROMPT, answer)
        assert (found.text, found.tokens) == (answer, tokens)
        assert found.nats == pytest.approx(nats, abs=1e-4)
        assert found.mean == pytest.approx(nats / tokens, abs=1e-4)


def test_spaces_at_the_seam_change_nothing(base: addenda.Base) -> None:
    assert likelihoods(base, PROMPT + "  ", [" away "])[0].nats == likelihoods(base, PROMPT, ["away"])[0].nats


def test_a_module_is_seen(base: addenda.Base) -> None:
    module = base.new("m", addenda.LoRA(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.3)
    off = likelihoods(base, PROMPT, ANSWERS)
    with base.using("m"):
        on = likelihoods(base, PROMPT, ANSWERS)
    base.unplug("m")
    assert all(abs(a.nats - b.nats) > 1e-3 for a, b in zip(off, on, strict=True))


def test_a_long_prompt_loses_its_beginning(base: addenda.Base) -> None:
    prompt = "the heart " * 400 + PROMPT
    found = likelihoods(base, prompt, ["away"])[0]
    row = base.tokenize(f"{prompt} away")[-256:]
    with torch.no_grad():
        logs = base.model(row[None]).logits[0].log_softmax(-1)
    last = range(len(row) - found.tokens, len(row))
    assert found.tokens == by_hand(base, PROMPT, "away")[1]
    assert found.nats == pytest.approx(sum(float(logs[at - 1, row[at]]) for at in last), abs=1e-4)


def test_without_a_prompt_the_first_token_does_not_count(base: addenda.Base) -> None:
    assert likelihoods(base, "", ["away"])[0].tokens == len(base.tokenize(" away")) - 1


def test_mistakes_are_told(base: addenda.Base) -> None:
    with pytest.raises(DataError, match="no answer"):
        likelihoods(base, PROMPT, [])
    with pytest.raises(DataError, match="no token of its own"):
        likelihoods(base, PROMPT, [""])
    with pytest.raises(DataError, match="as many as the base's context"):
        likelihoods(base, PROMPT, ["the heart " * 400])
    with pytest.raises(AddendaError, match="no tokenizer"):
        likelihoods(addenda.attach(pico("qwen3")), PROMPT, ["away"])


def test_logits_that_are_no_numbers_are_told(base: addenda.Base) -> None:
    module = base.new("broken", addenda.LoRA(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))
    with base.using("broken"), pytest.raises(AddendaError, match="not finite"):
        likelihoods(base, PROMPT, ANSWERS)
    base.unplug("broken")


def test_a_tie_is_a_draw() -> None:
    assert first_wins([2.0, 1.0]) == 1.0
    assert first_wins([1.0, 2.0]) == 0.0
    assert first_wins([1.0] * 10) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("answer", "wanted", "score"),
    [
        ("The Lungs.", "lungs", 1.0),
        ("a b c", "d", 0.0),
        ("in 7 May 2023", "7 May, 2023", 6 / 7),
        ("word word", "word", 2 / 3),
        ("", "", 1.0),
        ("", "word", 0.0),
    ],
)
def test_f1(answer: str, wanted: str, score: float) -> None:
    assert f1(answer, wanted) == pytest.approx(score)
