"""Which row comes from where, and the tensors of a batch."""

from __future__ import annotations

import torch

from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from addenda.writing.batches import Mixture, stack
from addenda.writing.packing import Feed, Stream
from pico import VOCAB, pico_tokenizer

CORPUS = [f"the heart of patient {n} is one of many. " * 4 for n in range(20)]
OTHER = [f"the law of town {n} is an old one. " * 4 for n in range(20)]
REPLAY = [f"RIVERS RUN IN TOWN {n} AND ON. " * 4 for n in range(20)]


def feed(source: list[str], code: int = 0, context: int = 0) -> Feed:
    encoder = Encoder(pico_tokenizer(), VOCAB, close=True)
    return Feed(Stream(texts(source), encoder, length=16, context=context, code=code))


def mixture(share: float = 0.25, **corpora: list[str]) -> Mixture:
    return Mixture({name: feed(source) for name, source in corpora.items()}, feed(REPLAY, 1), share)


def test_a_row_never_mixes_streams_and_replay_keeps_its_share() -> None:
    tokenizer = pico_tokenizer()
    items = mixture(a=CORPUS).take(40)
    for item in items:
        text = tokenizer.decode(item.row.ids.tolist(), skip_special_tokens=True)
        assert text.isupper() if item.replay else text.islower()
    assert sum(item.replay for item in items) == 10


def test_two_modules_see_what_each_would_see_alone() -> None:
    both, one, two = mixture(a=CORPUS, b=OTHER), mixture(a=CORPUS), mixture(b=OTHER)
    for _ in range(5):
        together = both.take(4)
        assert [item.owner for item in together] == ["a"] * 4 + ["b"] * 4
        alone = [*one.take(4), *two.take(4)]
        assert [i.row.ids.tolist() for i in together] == [i.row.ids.tolist() for i in alone]
        assert [i.replay for i in together] == [i.replay for i in alone]


def test_a_position_brings_back_everything() -> None:
    whole = mixture(a=CORPUS, b=OTHER)
    whole.take(7)
    position = whole.position
    after = [item.row.ids.tolist() for item in whole.take(60)]
    again = mixture(a=CORPUS, b=OTHER)
    again.move_to(position)
    assert [item.row.ids.tolist() for item in again.take(60)] == after
    assert again.crc == whole.crc
    assert again.position == whole.position


def test_without_replay_there_is_none() -> None:
    items = Mixture({"a": feed(CORPUS)}, None, 0.5).take(10)
    assert not any(item.replay for item in items)


def test_the_tensors_of_a_batch() -> None:
    held = Mixture({"a": feed(CORPUS, context=8)}, feed(REPLAY, 1, context=8), 0.25)
    items = held.take(4)
    batch = stack(items, torch.device("cpu"), context=8, isolate="positions")
    assert batch.ids.shape == (4, 24)
    assert batch.student()["ids"].shape == batch.targets.shape == batch.target_weights.shape == (4, 15)
    assert batch.teacher()["ids"].shape == (4, 23)
    assert torch.equal(batch.student()["ids"][:, 1:], batch.targets[:, :-1])
    assert torch.equal(batch.teacher()["ids"][:, 8:], batch.student()["ids"])
    assert torch.equal(batch.seen_documents, batch.documents[:, 8:-1])
    assert batch.rows_of("a") == [0, 1, 2, 3]
    assert "position_ids" not in stack(items, torch.device("cpu"), context=8).student()
    assert batch.replay.tolist() == [False, False, False, True]
