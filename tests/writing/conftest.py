"""A pico base with a tokenizer, and two small corpora that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import addenda
from addenda.gates import document
from pico import pico, pico_tokenizer

from . import child


def medical(count: int, start: int = 0) -> list[str]:
    return [
        f"the heart and the liver of patient {n} is treated with drug {n % 7}. " * 4
        for n in range(start, start + count)
    ]


def general(count: int, start: int = 0) -> list[str]:
    return [f"A river runs in the town {n} and on to the sea; {n % 5} boats! " * 4 for n in range(start, start + count)]


@pytest.fixture(autouse=True, scope="module")
def quick_gates() -> Iterator[None]:
    """Gates learn in a tenth of the steps: how well they tell is tested in `test_gate_fit.py` and in `tests/gates`."""
    steps = document.STEPS
    child.quick_gates()
    yield
    document.STEPS = steps


@pytest.fixture
def make_base() -> Callable[..., addenda.Base]:
    """A fresh base for a test: `make_base("qwen3")`."""

    def make(arch: str = "llama", **overrides: Any) -> addenda.Base:
        overrides.setdefault("num_hidden_layers", 2)
        return addenda.attach(pico(arch, **overrides), pico_tokenizer())

    return make


@pytest.fixture
def base(make_base: Callable[..., addenda.Base]) -> addenda.Base:
    return make_base()


@pytest.fixture
def texts() -> dict[str, list[str]]:
    return {"corpus": medical(40), "replay": general(20), "learning": medical(4, 100), "forgetting": general(4, 100)}


@pytest.fixture
def quick(texts: dict[str, list[str]]) -> dict[str, Any]:
    """Arguments of a short run: 8 steps of 4 rows of 32 tokens, a quarter of them replay."""
    return {
        "corpus": texts["corpus"],
        "replay": texts["replay"],
        "replay_share": 0.25,
        "tokens": 8 * 4 * 32,
        "length": 32,
        "batch_rows": 4,
        "lr": 1e-2,
        "log": False,
    }
