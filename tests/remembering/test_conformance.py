"""What every text memory keeps to: plain data that comes back from its file, a budget, and nothing in what it is given."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import addenda
from addenda.core import registry
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.remembering.text_memory import Held, TextMemory
from pico import pico, pico_tokenizer, random_ids

METHODS = list(registry.methods("text memory"))
TALK = [
    f"On day {n} we talked about the weather, the garden and the {what}."
    for n, what in enumerate(["rain", "well"] * 20)
]


def made(name: str) -> TextMemory:
    return cast("TextMemory", registry.build("text memory", name, {}))


def words(text: str) -> int:
    return len(text.split())


def taken(memory: TextMemory, texts: list[str]) -> Held:
    held = memory.blank()
    for text in texts:
        before = copy.deepcopy(held)
        held, old = memory.take(held, text), held
        assert old == before, "what it held is left as it was"
    return held


@pytest.mark.parametrize("name", METHODS)
def test_it_counts_its_turns_and_an_empty_one_recalls_nothing(name: str) -> None:
    memory = made(name)
    assert memory.turns(memory.blank()) == 0
    assert memory.turns(taken(memory, TALK[:5])) == 5
    assert memory.recall(memory.blank(), "the rain?", 50, words) == ""


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("budget", [0, 5, 30, 300])
def test_it_recalls_something_and_never_more_than_the_budget(name: str, budget: int) -> None:
    memory = made(name)
    told = memory.recall(taken(memory, TALK), "What of the rain and the well?", budget, words)
    assert words(told) <= budget
    assert bool(told) or budget < 12


@pytest.mark.parametrize("name", METHODS)
def test_what_it_holds_is_json_and_recalls_the_same_afterwards(name: str) -> None:
    memory = made(name)
    held = taken(memory, TALK)
    back = memory.restored(json.loads(json.dumps(held)))
    assert back == held
    assert memory.recall(back, "the well?", 60, words) == memory.recall(held, "the well?", 60, words)
    assert memory.take(back, TALK[0]) == memory.take(held, TALK[0])


@pytest.mark.parametrize("name", METHODS)
def test_a_module_of_it_comes_back_and_leaves_the_base_alone(name: str, tmp_path: Path) -> None:
    base: Any = addenda.attach(pico("llama"), pico_tokenizer())
    ids = random_ids(1, 9, seed=1)
    bare = base.model(ids).logits
    module = base.new("m", made(name))
    assert not list(module.parameters())
    base.remember("m", TALK[0])
    with base.using("m"), pytest.raises(UnsupportedError, match="text in the window"):
        base.model(ids)
    with pytest.raises(AddendaError):
        base.new("n", made(name), gate="document")
    folder = module.save(tmp_path / "m")
    other: Any = addenda.attach(pico("llama"), pico_tokenizer())
    other.plug(folder)
    with base.using("m"), other.using("m"):
        here, there = (each.prompts(["the rain?"], raw=True)["input_ids"] for each in (base, other))
    assert torch.equal(here, there)
    with base.off():
        assert torch.equal(base.model(ids).logits, bare)
        assert here.shape[1] > base.prompts(["the rain?"], raw=True)["input_ids"].shape[1]
