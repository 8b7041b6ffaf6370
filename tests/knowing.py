"""A module that has read two texts, one of which is to go."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch

import addenda
from pico import pico, pico_tokenizer

WORDS = "river mill lane home child song bread stone field night insulin dose trial patient week fever".split()


def sentences(seed: int, count: int = 4, words: int = 12) -> list[str]:
    """Documents that can only be known by having been read."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=words)) + "." for _ in range(count)]


FORGET, RETAIN = sentences(1), sentences(2)


def fresh(kind: Any = None) -> addenda.Base:
    """A pico base with a new module `m`."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=4) if kind is None else kind)
    return base


@cache
def _learned() -> tuple[dict[str, torch.Tensor], list[int] | None, list[Any]]:
    base = fresh()
    addenda.train(base, "m", corpus=FORGET + RETAIN, tokens=5120, length=32, batch_rows=4, lr=2e-2, log=False)
    module = base.modules["m"]
    return {k: t.clone() for k, t in module.tensors().items()}, module.probe, module.card.training


def known() -> addenda.Base:
    """A pico base with a module `m` that has learned both texts; it is trained once for all tests."""
    tensors, probe, training = _learned()
    base = fresh()
    module = base.modules["m"]
    module.load_tensors(tensors)
    module.probe, module.card.training = probe, list(training)
    return base
