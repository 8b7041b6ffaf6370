"""Remembering: a memory on disk that is written turn by turn, goes on in the next process, and can be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import FileError
from addenda.showing.remembering import Memory
from pico import pico, pico_tokenizer

SAID = "my sister Ada lives in the old mill by the river and keeps eleven grey geese. " * 2
SETTINGS: dict[str, Any] = {"lr": 1e-2, "passes": 4}


def fresh_base() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


def known(base: addenda.Base) -> float:
    return float(addenda.perplexity(base, [SAID]))


def test_what_was_said_is_known_better_after_and_in_the_next_process(tmp_path: Path) -> None:
    base = fresh_base()
    before = known(base)
    memory = Memory(base, tmp_path / "mine", **SETTINGS)
    assert base.selection.everyone == {"mine": 1.0}
    for turn in range(3):
        memory.take(SAID)
        assert memory.turns == turn + 1
    after = known(base)
    assert after < before - 0.02
    with base.off():
        assert known(base) == before
    other = fresh_base()
    again = Memory(other, tmp_path / "mine", **SETTINGS)
    assert again.turns == 3
    assert known(other) == pytest.approx(after, rel=1e-6)
    again.take(SAID)
    assert again.turns == 4


def test_other_modules_stay_as_they_are(base: Any, tmp_path: Path) -> None:
    base.use(med=0.5)
    before = {name: tensor.clone() for name, tensor in base.modules["med"].tensors().items()}
    memory = Memory(base, tmp_path / "mine", **SETTINGS)
    memory.take(SAID)
    assert base.selection.everyone == {"med": 0.5, "mine": 1.0}
    assert all(torch.equal(tensor, base.modules["med"].tensors()[name]) for name, tensor in before.items())


def test_forgetting_leaves_nothing_on_disk_and_nothing_in_the_logits(tmp_path: Path) -> None:
    base = fresh_base()
    before = known(base)
    memory = Memory(base, tmp_path / "mine", **SETTINGS)
    memory.take(SAID)
    memory.forget()
    assert not (tmp_path / "mine").exists()
    assert known(base) == before
    assert base.selection.everyone == {"mine": 1.0}
    memory.take(SAID)
    assert memory.turns == 1
    assert (tmp_path / "mine" / "card.json").exists()


def test_an_empty_turn_is_no_turn(tmp_path: Path) -> None:
    memory = Memory(fresh_base(), tmp_path / "mine")
    memory.take(" \n")
    assert memory.turns == 0
    assert not (tmp_path / "mine").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(FileError, match=r"diary\.txt"):
        Memory(fresh_base(), tmp_path / "mine")
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear diary"


def test_nothing_is_kept_while_the_memory_is_off(tmp_path: Path) -> None:
    base = fresh_base()
    memory = Memory(base, tmp_path / "mine", **SETTINGS)
    memory.take(SAID)
    base.use()
    memory.take("a secret between us, of which nothing is to be kept")
    assert memory.turns == 1


def test_an_interrupted_turn_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from addenda.writing.writer import Writer

    base = fresh_base()
    memory = Memory(base, tmp_path / "mine", **SETTINGS)
    memory.take(SAID)
    before = {name: tensor.clone() for name, tensor in base.modules["mine"].tensors().items()}
    original, taken = Writer.take, 0

    def take(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 3:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Writer, "take", take)
    with pytest.raises(KeyboardInterrupt):
        memory.take(SAID)
    assert all(torch.equal(tensor, base.modules["mine"].tensors()[name]) for name, tensor in before.items())
    assert memory.turns == 1
