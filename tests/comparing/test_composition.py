"""Composition: parts of a corpus, modules trained apart and together, what is kept, and records that spare the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import addenda
from addenda.comparing import composition
from addenda.comparing.composition import _share, attends, compose, mean_interference, parts_of
from addenda.comparing.methods import METHODS
from addenda.comparing.page import kept_of
from addenda.comparing.settings import CompareSettings
from addenda.core.errors import AddendaError, DataError
from addenda.text.texts import texts
from pico import pico, pico_tokenizer

WORDS = "the patients were given insulin and the outcome of the trial was measured at the end of the week".split()
SETTINGS = CompareSettings(
    tokens=2048, seeds=(0,), length=32, batch_rows=4, held_tokens=800, count=8, extra=0.2, compose=2, allow_overlap=True
)


@pytest.fixture
def base() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


def corpus(lines: int = 40) -> list[str]:
    """Two parts, dealt out in turn, of different words."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.permutation(WORDS[:9] if n % 2 else WORDS[9:]).tolist()) for n in range(lines)]


def test_documents_are_dealt_out() -> None:
    found = parts_of(texts(["a", "b", "c", "d", "e"]), 2)
    assert [[record["text"] for record in part] for part in found] == [["a", "c", "e"], ["b", "d"]]
    with pytest.raises(DataError, match="too few for 2 parts"):
        parts_of(texts(["a"]), 2)
    with pytest.raises(AddendaError, match="'compose' must be 0, or from 2 to 8"):
        CompareSettings(compose=1)


def test_modules_trained_apart_are_plugged_together_once(base: addenda.Base, tmp_path: Path) -> None:
    said: list[str] = []
    given = (base, METHODS["lora"], texts(corpus()), None, SETTINGS)
    found = compose(*given, rate=1e-2, out=tmp_path, tell=said.append)
    assert base.modules == {}
    assert len(said) == 2
    assert all(gain > 0.05 for gain in found.alone)
    assert found.kept[1].value == pytest.approx(1.0)
    assert set(found.kept) == {1, 2}
    assert found.kept[2].low == found.kept[2].value == found.kept[2].high  # two parts have no interval
    assert found.pairs[0][0] == found.pairs[1][1] == 0.0
    # with two modules, what the other adds is what is not kept
    left = sum(found.alone[at] - found.pairs[at][1 - at] for at in range(2))
    assert found.kept[2].value == pytest.approx(left / sum(found.alone), rel=1e-4)
    assert mean_interference(found) == pytest.approx(np.mean([found.pairs[0][1], found.pairs[1][0]]))
    assert compose(*given, rate=1e-2, out=tmp_path, tell=said.append) == found
    assert len(said) == 2


def test_attention_kinds_are_trained_among_distractors_too(base: addenda.Base, tmp_path: Path) -> None:
    method = METHODS["registers"]
    assert attends(method, base, SETTINGS)
    assert not attends(METHODS["lora"], base, SETTINGS)
    said: list[str] = []
    apart = compose(base, method, texts(corpus()), None, SETTINGS, rate=3e-2, out=tmp_path, tell=said.append)
    among = compose(
        base, method, texts(corpus()), None, SETTINGS, rate=3e-2, out=tmp_path, distractors=True, tell=said.append
    )
    assert base.modules == {}
    assert [line.split(":")[0] for line in said] == ["registers"] * 2 + ["registers, among distractors"] * 2
    assert among.distractors
    assert among.alone != apart.alone


def test_a_share_has_an_interval_from_three_parts_on_and_none_where_nothing_was_gained() -> None:
    assert kept_of(_share([0.3, 0.1], [0.4, 0.2])) == ("67%", "")
    value, told = kept_of(_share([0.3, 0.1, 0.1], [0.4, 0.2, 0.2]))
    assert value == "62%"
    assert " to " in told
    assert kept_of(_share([0.3, 0.1, -0.1], [0.4, 0.2, -0.1])) == ("60%", "")
    assert kept_of(_share([0.1, 0.1, 0.1], [-0.1, -0.2, 0.0])) == ("-", "")


def test_parts_hold_what_is_read_of_them_and_no_more(
    base: addenda.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is measured was trained on, however long the corpus is."""
    trained: list[list[str]] = []
    measured: list[list[str]] = []

    def train(*_: object, corpus: object, **more: object) -> None:
        trained.append([record["text"] for record in corpus])  # type: ignore[attr-defined]

    def scored(base: addenda.Base, part: object, **more: object) -> object:
        measured.append([record["text"] for record in part])  # type: ignore[attr-defined]
        return real(base, part, **more)  # type: ignore[arg-type]

    real = composition.score
    monkeypatch.setattr(composition, "train", train)
    monkeypatch.setattr(composition, "score", scored)
    compose(base, METHODS["lora"], texts(corpus(4000)), None, SETTINGS, rate=1e-2, out=tmp_path)
    assert len(trained) == 2
    assert all(part in trained for part in measured)
    for part in trained:
        tokens = sum(len(base.tokenize(one)) + 1 for one in part)
        assert 1024 - 64 <= tokens <= 1024 + 64
