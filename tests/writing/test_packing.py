"""Rows: streams apart, each token once an epoch, an order that can be entered anywhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from addenda.core.errors import DataError
from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from addenda.writing.packing import Feed, Stream, is_replay
from pico import EOS, VOCAB, pico_tokenizer

WORDS = [f"text number {n} has a few words in it. " * (1 + n % 5) for n in range(30)]


def stream(source: list[str] = WORDS, length: int = 16, **options: int) -> Stream:
    return Stream(texts(source), Encoder(pico_tokenizer(), VOCAB, close=True), length=length, **options)


def all_tokens(source: list[str] = WORDS) -> list[int]:
    return [int(i) for d in Encoder(pico_tokenizer(), VOCAB, close=True).documents(texts(source)) for i in d.ids]


def test_an_epoch_reads_every_token_once_but_for_a_tail() -> None:
    tokens = all_tokens()
    for epoch in (0, 1, 2):
        rows = list(stream().rows(epoch))
        assert len(rows) == len(tokens) // 16
        assert all(len(row) == 16 for row in rows)
        missing = Counter(tokens)
        missing.subtract(int(i) for row in rows for i in row.ids)
        assert sum(missing.values()) == len(tokens) % 16
        assert min(missing.values()) >= 0  # nothing twice


def test_documents_follow_one_another_and_the_first_token_of_each_is_never_predicted() -> None:
    rows = sorted(stream(shuffle_tokens=1).rows(0), key=lambda row: int(row.documents[0]))
    assert sum(len(np.unique(row.documents)) > 1 for row in rows) > 5
    starts = 0
    for row in rows:
        inside = np.flatnonzero(np.diff(row.documents)) + 1
        assert (np.diff(row.documents) >= 0).all()
        assert (row.ids[inside - 1] == EOS).all()
        assert (row.weights[inside] == 0).all()
        starts += len(inside)
        assert row.weights.sum() >= 16 - len(inside) - 1
    assert starts > 20


def test_the_order_is_seeded_and_really_shuffled() -> None:
    def order(seed: int, epoch: int = 0, code: int = 0) -> list[bytes]:
        return [row.ids.tobytes() for row in stream(seed=seed, code=code).rows(epoch)]

    first = order(0)
    assert first == order(0)
    others = [order(1), order(0, code=1)]
    plain = [row.ids.tobytes() for row in stream(shuffle_tokens=16).rows(0)]
    assert all(sorted(first) == sorted(other) and first != other for other in [*others, plain])
    assert sorted(order(0, epoch=1)) != sorted(first)  # another offset: rows are cut elsewhere


def test_a_small_buffer_shuffles_near_and_loses_nothing() -> None:
    near = list(stream(shuffle_tokens=64).rows(0))
    assert sorted(r.ids.tobytes() for r in near) == sorted(r.ids.tobytes() for r in stream().rows(0))
    firsts = [int(row.documents[0]) for row in near]
    assert firsts != sorted(firsts)
    assert np.corrcoef(firsts, range(len(firsts)))[0, 1] > 0.9


@pytest.mark.parametrize("buffer", [16, 64, 2**20])
def test_it_can_be_entered_anywhere(buffer: int) -> None:
    feed = Feed(stream(WORDS[:8], shuffle_tokens=buffer))
    taken, places = [], []
    for _ in range(120):
        places.append(feed.position)
        taken.append(feed.take().ids.tobytes())
    assert places[-1][0] >= 2  # several epochs
    for at in (0, 1, 37, 60, 119):
        again = Feed(stream(WORDS[:8], shuffle_tokens=buffer), *places[at])
        assert [again.take().ids.tobytes() for _ in range(120 - at)] == taken[at:]


def test_context_stands_before_each_row() -> None:
    tokens = all_tokens()
    rows = list(stream(context=8, shuffle_tokens=1).rows(0))
    assert len(rows) == (len(tokens) - 8) // 16
    for number, row in enumerate(rows):
        assert row.ids.tolist() == tokens[number * 16 : number * 16 + 24]


def test_what_is_too_short_or_empty() -> None:
    with pytest.raises(DataError, match="'texts' is empty: it holds no text"):
        list(stream([" "]).rows(0))
    with pytest.raises(DataError, match=r"'texts' is shorter than one sequence: it has 3 tokens, a row takes 16"):
        list(stream(["ab"]).rows(0))
    # one row exactly is enough, epoch after epoch
    feed = Feed(stream(["x" * 15]))
    assert [len(feed.take()) for _ in range(5)] == [16] * 5


@pytest.mark.parametrize("share", [0.0, 0.003, 0.1, 0.29, 1 / 3, 0.5, 0.9, 0.999])
def test_the_running_share_of_replay_never_strays_a_row(share: float) -> None:
    seen = 0
    for number in range(3000):
        seen += is_replay(number, share)
        assert -1e-6 <= (number + 1) * share - seen < 1 + 1e-6
    assert seen == int(3000 * share + 1e-9)
