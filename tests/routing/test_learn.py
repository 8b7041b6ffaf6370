"""Learning a route: prompts drawn from any text, keys kept whole or not at all, a report of what they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.routing.prompts import LENGTHS, drawn
from addenda.telling.progress import Progress
from addenda.text.texts import texts
from pico import pico
from routed import base_with, documents, learn, prompts


@pytest.fixture(scope="module")
def base() -> Any:
    return base_with(medical=addenda.LoRA(rank=2))


def test_the_report_says_what_is_found(base: Any) -> None:
    report = learn(base, "medical", "nearest")
    assert report.found > 0.5
    assert (report.prompts, report.general_prompts, report.at_most) == (128, 128, 0.05)
    assert "of the subject's (on the other halves)" in str(report)
    assert report.as_dict()["threshold"] == report.threshold
    wider = learn(base, "medical", "nearest", at_most=0.5)
    assert wider.threshold > report.threshold


def test_stretches_are_short_and_no_half_knows_the_others_documents(base: Any) -> None:
    named = [" ".join([f"n{number}n"] * 400) for number in range(20)]
    first, second = drawn(base, texts(named), 60, seed=0)
    assert (len(first), len(second)) == (30, 30)
    assert {len(row) for row in (*first, *second)} <= {length + 1 for length in LENGTHS}
    seen = [
        {base.tokenizer.decode(row).split()[-2 if len(row) > 20 else 0] for row in half} for half in (first, second)
    ]
    assert not seen[0] & seen[1]
    assert drawn(base, texts(named), 60, seed=0)[0][0].equal(first[0])
    assert not drawn(base, texts(named), 60, seed=1)[0][0].equal(first[0])


def test_one_long_text_will_do(base: Any) -> None:
    halves = drawn(base, texts([" ".join(documents("medical"))]), 32, seed=0)
    assert [len(half) for half in halves] == [16, 16]


def test_texts_without_spaces_and_with_little_else_are_cut_too(base: Any) -> None:
    for text in ("".join(documents("medical")).replace(" ", ""), " \n" * 400 + "insulin dose " * 200):
        first, second = drawn(base, texts([text]), 32, seed=0)
        assert len({tuple(row.tolist()) for row in (*first, *second)}) > 5
        assert all(len(row) for row in (*first, *second))


def test_of_conversations_and_prompts_what_the_user_says_first_counts(base: Any) -> None:
    asked = [f"what is insulin {number}?" for number in range(10)]
    records = [{"prompt": text, "completion": "a hormone"} for text in asked]
    records += [
        {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": text + " and"}]}
        for text in asked
    ]
    first, second = drawn(base, texts(records), 64, seed=0)
    said = {base.tokenizer.decode(row) for row in (*first, *second)}
    assert said == {*asked, *(text + " and" for text in asked)}


def test_what_will_be_read_is_told_before(base: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("learning the route", by_ticks=True, at_once=False) as shown:
        learn(base, "medical", "nearest")
        assert shown.whole.done == shown.whole.total
    assert "learning the route to medical by nearest: 256 prompts, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corpus": ["short"]}, "'texts' gives 1 prompt, and 16 are needed to learn from; give more text"),
        ({"router": "nearer"}, "no router is called 'nearer'; there are .*nearest"),
        ({"at_most": 0.0}, "at_most is a share of general prompts above 0, up to 1; got 0.0"),
        ({"prompts": 1}, "prompts is a number of prompts to draw from each text, at least 2; got 1"),
        ({"name": "medcal"}, "no module 'medcal' is plugged; .* did you mean 'medical'"),
        ({"general": "general_trian"}, "did you mean the sample 'general_train'"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_kept(settings: dict[str, Any], message: str) -> None:
    base = base_with(medical=addenda.LoRA(rank=2))
    call = {"name": "medical", "corpus": documents("medical"), "general": documents("general")} | settings
    with pytest.raises((AddendaError, DataError), match=message):
        addenda.learn_route(base, call.pop("name"), **call)
    assert base.modules["medical"].side == {}


def test_a_base_whose_numbers_overflow_is_refused() -> None:
    base = base_with(medical=addenda.LoRA(rank=2))
    base.model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(AddendaError, match="activations are not finite, so 'medical' gets no keys"):
        learn(base, "medical", "nearest")
    assert base.modules["medical"].side == {}


def test_a_base_without_a_tokenizer_is_told() -> None:
    base = addenda.attach(pico("llama"))
    base.new("medical", addenda.LoRA(rank=2))
    with pytest.raises(AddendaError, match="the base has no tokenizer"):
        learn(base, "medical", "nearest")


def test_the_module_is_left_as_it_is(base: Any) -> None:
    before = {name: tensor.clone() for name, tensor in base.modules["medical"].tensors().items()}
    base.modules["medical"].keep_beside("fisher", {"row": torch.ones(3)})
    learn(base, "medical", "nearest")
    assert all(tensor.equal(before[name]) for name, tensor in base.modules["medical"].tensors().items())
    assert set(base.modules["medical"].side_of("fisher")) == {"row"}
    assert base.selection.empty
    assert addenda.route(base, prompts("medical")).selections == [{"medical": 1.0}] * 6
