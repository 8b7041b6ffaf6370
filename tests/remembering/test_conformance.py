"""What every text memory keeps to: a budget, plain data, texts that it does not change, and the life of any module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

import addenda
from addenda.core import registry
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.remembering.text_memory import TextMemory
from pico import pico, pico_tokenizer, random_ids

METHODS = list(registry.methods("text memory"))
TURNS = ["We meet on Monday.", "Ann brings the maps.", "The boat leaves at nine, and nobody waits.", "It will rain."]


def made(name: str) -> TextMemory:
    return cast("TextMemory", registry.build("text memory", name, {}))


def attached() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


def words(text: str) -> int:
    return len(text.split())


def taken(memory: TextMemory) -> dict[str, Any]:
    held = memory.blank()
    for number, turn in enumerate(TURNS):
        before = json.dumps(held)
        held, given = memory.take(held, turn), held
        assert json.dumps(given) == before, "taking in a turn changes what was held"
        assert memory.turns(held) == number + 1
    return held


@pytest.mark.parametrize("name", METHODS)
def test_what_it_recalls_keeps_to_the_budget(name: str) -> None:
    memory = made(name)
    assert memory.recall(memory.blank(), "Who?", 50, words) == ""
    held = taken(memory)
    for budget in (0, 1, 4, 9, 40):
        assert words(memory.recall(held, "Who brings the maps?", budget, words)) <= budget
    assert memory.recall(held, "Who brings the maps?", 100, words)


@pytest.mark.parametrize("name", METHODS)
def test_what_it_holds_is_plain_data(name: str) -> None:
    memory = made(name)
    held = taken(memory)
    back = memory.restored(json.loads(json.dumps(held)))
    assert back == held
    assert memory.recall(back, "Who?", 40, words) == memory.recall(held, "Who?", 40, words)
    assert memory.restored(memory.blank()) == memory.blank()


@pytest.mark.parametrize("name", METHODS)
def test_it_is_a_module_without_tensors_and_text_in_the_window(name: str, tmp_path: Path) -> None:
    base = attached()
    module = base.new("m", made(name))
    assert (module.size(), list(module.tensors())) == (0, [])
    base.remember("m", *TURNS)
    ids = random_ids(1, 5)
    bare = base.prompts(["Who?"], raw=True)["input_ids"]
    with base.using("m"):
        asked = base.prompts(["Who?"], raw=True)
        assert asked["input_ids"].shape[1] > bare.shape[1]
        assert base.tokenizer.decode(asked["input_ids"][0]).endswith("Who?")
        base.model.generate(**asked, max_new_tokens=2)
        with pytest.raises(UnsupportedError, match="'m' is text in the window"):
            base.model(ids)
    base.model(ids)
    other = attached()
    back = other.plug(module.save(tmp_path / "m"))
    assert (back.kind, back.memory) == (module.kind, module.memory)
    other.use("m")
    assert other.prompts(["Who?"], raw=True)["input_ids"].tolist() == asked["input_ids"].tolist()


@pytest.mark.parametrize("name", METHODS)
def test_it_takes_no_gate(name: str) -> None:
    with pytest.raises(AddendaError, match="text in the window, which takes no gate"):
        attached().new("m", made(name), gate="document")
