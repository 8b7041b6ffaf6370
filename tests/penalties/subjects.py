"""A pico base, two subjects for it, and a module that has learned the first."""

from __future__ import annotations

from typing import Any

import addenda
from pico import pico, pico_tokenizer

FIRST = [f"the heart and the liver of patient {n} is treated with drug {n % 7}. " * 4 for n in range(40)]
SECOND = [f"A river runs in the town {n} and on to the sea; {n % 5} boats! " * 4 for n in range(40)]
RUN: dict[str, Any] = {"tokens": 8 * 4 * 32, "length": 32, "batch_rows": 4, "lr": 1e-2, "log": False}


def make_base() -> addenda.Base:
    return addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())


def trained(kind: Any = None, base: addenda.Base | None = None, **settings: Any) -> addenda.Base:
    """A base whose module "m" has learned the first subject."""
    base = make_base() if base is None else base
    base.new("m", addenda.LoRA(rank=4) if kind is None else kind)
    addenda.train(base, "m", corpus=FIRST, **{**RUN, **settings})
    return base
