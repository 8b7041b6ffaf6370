"""Three subjects in words of their own, general text, and a pico base with modules whose keys were learned."""

from __future__ import annotations

import random
from typing import Any

import torch

import addenda
from pico import pico, pico_tokenizer

WORDS = {
    "medical": "patients insulin dose trial outcome placebo clinic weeks pressure blood given measured",
    "numbers": "17 204 33 9 51 860 72 4 6008 315 99 12",
    "shouted": "LAW COURT CLAUSE PARTY SHALL NOTICE TERM ACT RIGHTS FEE BOARD DATE",
    "general": "river mill lane children sang walked home garden evening bread window quiet",
}


def documents(subject: str, count: int = 24, seed: int = 0) -> list[str]:
    """Documents of a subject, each some sixty of its words."""
    draw = random.Random(f"{subject}{seed}")
    return [" ".join(draw.choices(WORDS[subject].split(), k=60)) for _ in range(count)]


def prompts(subject: str, count: int = 6) -> list[str]:
    """Prompts of a subject that no key was learned from."""
    return [" ".join(text.split()[:24]) for text in documents(subject, count, seed=1)]


def base_with(**modules: Any) -> Any:
    """A pico base with a module of each kind, its parameters drawn so that it changes the logits."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    for number, (name, kind) in enumerate(modules.items()):
        module = base.new(name, kind, seed=number)
        draw(module)
    return base


def draw(module: Any) -> None:
    """Draw a module's parameters, the same each time."""
    generator = torch.Generator().manual_seed(sum(map(ord, module.name)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)


def learned(router: Any, *names: str, **settings: Any) -> Any:
    """A pico base with a LoRA for each subject named, whose keys the router has learned."""
    base = base_with(**{name: addenda.LoRA(rank=2) for name in names})
    for name in names:
        learn(base, name, router, **settings)
    return base


def learn(base: Any, name: str, router: Any, **settings: Any) -> addenda.LearnedRoute:
    """Learn the keys of a module named as a subject."""
    general = documents("general", 48)
    return addenda.learn_route(base, name, documents(name), general=general, router=router, prompts=128, **settings)
