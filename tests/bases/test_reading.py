"""Reading the base while other threads use it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

import addenda
from addenda.measuring.looking.activity import activity as activity_on
from pico import pico, pico_tokenizer, random_ids

IDS, OTHER = random_ids(1, 9, seed=1)[0], random_ids(1, 5, seed=2)


def hidden_states(base: addenda.Base) -> list[torch.Tensor]:
    return base.reader.hidden_states(IDS)


def entries(base: addenda.Base) -> list[torch.Tensor]:
    sites = [base.host.site("layers.1.ffn"), base.host.site("layers.2.ffn")]
    return list(base.reader.entries(sites, IDS[None]).values())


def activity(base: addenda.Base) -> list[torch.Tensor]:
    return [torch.from_numpy(activity_on(base, "m", "the heart pumps").values)]


@pytest.mark.parametrize("read", [hidden_states, entries, activity])
def test_forwards_of_other_threads_are_not_read(read: Callable[[addenda.Base], list[torch.Tensor]]) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.NeutralResidues(width=6, gate="token"))
    alone = read(base)
    asked: list[torch.Tensor] = []

    def forward() -> None:
        with torch.no_grad(), base.off():  # a thread says what it wants where another has something selected
            asked.append(base.model(OTHER).logits)

    def beside(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread() and not asked:
            thread = threading.Thread(target=forward)
            thread.start()
            thread.join()

    handle = base.host.layers[2].self_attn.register_forward_pre_hook(beside)  # in the middle of what is read
    found = read(base)
    handle.remove()
    assert len(asked) == 1, "the other thread's forward was broken off"
    assert len(found) == len(alone)
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))
