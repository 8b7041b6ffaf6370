"""Scores: each token once, in its context, the same bits each time; paired differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.plug.scoring import Score, score
from pico import BOS, pico, pico_tokenizer

TEXTS = [f"the heart of patient {n} and the liver in one. " * (1 + n % 4) for n in range(7)]


@pytest.fixture
def base() -> addenda.Base:
    return addenda.attach(pico("mistral", num_hidden_layers=2), pico_tokenizer())


def by_hand(base: addenda.Base, text: str) -> tuple[float, int]:
    ids = torch.tensor([[BOS, *base.tokenizer(text)["input_ids"]]])
    with torch.no_grad():
        logits = base.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return -float(logits.gather(1, ids[0, 1:, None]).sum()), ids.shape[1] - 1


def test_the_sums_of_documents_are_those_taken_by_hand(base: addenda.Base) -> None:
    found = score(base, TEXTS, length=200)
    hand = [by_hand(base, text) for text in TEXTS]
    assert found.counts.tolist() == [count for _, count in hand]
    np.testing.assert_allclose(found.sums, [nats for nats, _ in hand], rtol=1e-5)
    assert found.nats == pytest.approx(sum(n for n, _ in hand) / sum(c for _, c in hand))
    assert float(found) == found.nats
    assert found.bytes == sum(len(text) for text in TEXTS)
    assert found.bits_per_byte == pytest.approx(found.sums.sum() / math.log(2) / found.bytes)
    assert found.low < found.nats < found.high
    assert found.documents == 7
    assert found.perplexity == pytest.approx(math.exp(found.nats))


def test_the_same_call_gives_the_same_bits(base: addenda.Base) -> None:
    one, two = score(base, TEXTS, length=32), score(base, TEXTS, length=32)
    assert (one.sums == two.sums).all()
    assert (one.low, one.high) == (two.low, two.high)


@pytest.mark.parametrize(("length", "stride"), [(16, None), (16, 16), (16, 4), (16, 1), (200, 3)])
def test_windows_score_each_token_once(base: addenda.Base, length: int, stride: int | None) -> None:
    found = score(base, TEXTS, length=length, stride=stride)
    assert found.counts.tolist() == score(base, TEXTS, length=200).counts.tolist()


def test_context_from_a_stride_is_really_read(base: addenda.Base) -> None:
    full = score(base, TEXTS, length=64, stride=1)  # every token sees the 63 before it
    ids = [BOS, *base.tokenizer(TEXTS[3])["input_ids"]]
    with torch.no_grad():
        total = 0.0
        for at in range(1, len(ids)):
            seen = torch.tensor([ids[max(0, at - 64) : at]])
            total -= float(base.model(input_ids=seen).logits[0, -1].log_softmax(-1)[ids[at]])
    assert full.sums[3] == pytest.approx(total, rel=1e-5)


def test_the_batch_does_not_matter(base: addenda.Base) -> None:
    one, many = (score(base, TEXTS, length=32, batch_tokens=n) for n in (1, 10_000))
    np.testing.assert_allclose(one.sums, many.sums, rtol=1e-5)


def test_a_limit_stops_in_the_middle_of_a_document(base: addenda.Base) -> None:
    found = score(base, TEXTS, tokens=50)
    assert found.tokens == 50
    assert found.bytes < sum(len(text) for text in TEXTS[:3])


def test_few_tokens_are_shared_out_over_documents(base: addenda.Base) -> None:
    long = [f"the heart of patient {n} and the liver in one. " * 40 for n in range(20)]
    found = score(base, long, tokens=1024)
    assert (found.documents, found.tokens) == (8, 1024)
    assert set(found.counts.tolist()) == {128}
    assert score(base, long, tokens=1024, length=16).counts.tolist() == [64] * 16  # as many as get four windows each
    assert score(base, long, tokens=300).counts.tolist() == [150, 150]
    assert score(base, long, tokens=50).documents == 1
    # each document's beginning, scored as it is alone
    alone = [score(base, [text], tokens=128).nats for text in long[:3]]
    assert alone == pytest.approx((found.sums[:3] / 128).tolist(), rel=1e-5)


def test_what_short_documents_leave_goes_to_long_ones(base: addenda.Base) -> None:
    texts = ["a river. ", "the heart and the liver. " * 90, "a mill. "]
    everything = score(base, texts)
    assert score(base, texts, tokens=10_000).tokens == everything.tokens
    part = score(base, texts, tokens=everything.tokens - 40)
    assert part.tokens == everything.tokens - 40
    assert part.counts[[0, 2]].tolist() == everything.counts[[0, 2]].tolist()


def test_a_loss_is_never_below_zero(base: addenda.Base) -> None:
    texts = ["a" * 60, "the heart of the patient and a long liver, in seven rare words: zygote, quartz, jinx, vex. "]
    found = score(base, texts)
    assert 0 <= found.low <= found.nats <= found.high


def test_the_selection_of_the_moment_is_what_is_scored(base: addenda.Base) -> None:
    module = base.new("a", addenda.NeutralResidues(width=8))
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    bare = score(base, TEXTS)
    base.use("a")
    on = score(base, TEXTS)
    with base.off():
        assert (score(base, TEXTS).sums == bare.sums).all()
    assert abs(on.minus(bare).nats) > 1e-3
    assert on.minus(bare).nats == pytest.approx(on.nats - bare.nats)
    assert base.model.training is False


def test_only_the_assistants_words_are_scored(base: addenda.Base) -> None:
    chat = {"messages": [{"role": "user", "content": "a b c d e f"}, {"role": "assistant", "content": "xyz"}]}
    assert score(base, [chat]).tokens == 4  # three letters and the end


def made(sums: list[float], counts: list[int]) -> Score:
    total = np.array(counts)
    return Score(0.0, 0.0, 0.0, int(total.sum()), 1, len(counts), "x", np.array(sums), total, total)


def test_a_paired_difference_is_tighter_than_its_parts() -> None:
    random = np.random.default_rng(1)
    hard = random.normal(100, 30, 200)
    one, two = made(list(hard), [20] * 200), made(list(hard - 1 + random.normal(0, 0.1, 200)), [20] * 200)
    gain = one.minus(two)
    assert gain.low < 0.05 < gain.high
    assert gain.high - gain.low < 0.01
    assert float(gain) == gain.nats
    with pytest.raises(AddendaError, match="different documents"):
        one.minus(made([1.0], [20]))


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    random, hits = np.random.default_rng(2), 0
    for _ in range(200):
        counts = random.integers(5, 50, 60)
        sums = counts * 3.0 + random.normal(0, 5, 60)
        difference = made(list(sums), list(counts)).minus(made([0.0] * 60, list(counts)))
        hits += difference.low <= 3.0 <= difference.high
    assert 180 <= hits < 200


def test_one_document_has_no_interval(base: addenda.Base) -> None:
    found = score(base, TEXTS[:1])
    assert found.low == found.nats == found.high


@pytest.mark.parametrize("wrong", [{"length": 1}, {"stride": 99, "length": 9}, {"stride": -1}, {"precision": "fp8"}])
def test_settings_out_of_range(base: addenda.Base, wrong: dict[str, Any]) -> None:
    with pytest.raises(AddendaError, match=r"stride|precision"):
        score(base, TEXTS, **wrong)


def test_nothing_to_score(base: addenda.Base) -> None:
    with pytest.raises(DataError, match="'texts' holds no token to score"):
        score(base, ["  "])


def test_bf16_is_near(base: addenda.Base) -> None:
    assert score(base, TEXTS, precision="bf16").nats == pytest.approx(score(base, TEXTS).nats, rel=0.02)


@pytest.mark.parametrize(
    "asked",
    [{"stride": 2.5}, {"length": 8.0}, {"tokens": 1.5}, {"batch_tokens": "many"}, {"length": True}, {"tokens": 0}],
)
def test_sizes_are_whole_numbers(asked: dict[str, Any]) -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    ((name, _),) = asked.items()
    with pytest.raises(AddendaError, match=f"{name} must be a whole number from 1; got "):
        addenda.perplexity(base, ["the heart and the liver"], **asked)
