"""Perplexity as a user calls it; what a score is made of is tested with scoring."""

from __future__ import annotations

from pathlib import Path

import pytest

import addenda
from pico import pico, pico_tokenizer

TEXTS = [f"the heart of patient {n} and the liver in one. " * 3 for n in range(6)]


@pytest.fixture
def base() -> addenda.Base:
    return addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())


def test_nats_per_token_with_an_interval(base: addenda.Base) -> None:
    score = addenda.perplexity(base, TEXTS, length=32, stride=16)
    assert isinstance(score, addenda.Score)
    assert score.low < float(score) < score.high
    plain = score.as_dict()
    assert plain["on"] == "texts"
    assert plain["documents"] == 6
    assert plain["bits_per_byte"] > 0


def test_a_file_by_its_name(base: addenda.Base, tmp_path: Path) -> None:
    (tmp_path / "held_out.txt").write_text(TEXTS[0])
    assert addenda.perplexity(base, tmp_path / "held_out.txt").on == "held_out.txt"


def test_without_a_tokenizer() -> None:
    with pytest.raises(addenda.AddendaError, match="no tokenizer"):
        addenda.perplexity(addenda.attach(pico("gpt2")), TEXTS)
