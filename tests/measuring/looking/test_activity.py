"""Activity: the gate at every token and layer, as the adapters themselves compute it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda import AddendaError
from addenda.core.errors import DataError, SelectionError
from addenda.measuring.looking.activity import activity
from pico import pico, pico_tokenizer

TEXT = "the patients sang in the lane"


def loud(kind: Any, arch: str = "llama", std: float = 0.3) -> Any:
    """A base with a module `m` of random parameters."""
    base = addenda.attach(pico(arch), pico_tokenizer())
    module = base.new("m", kind)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, std)
    return base


@pytest.mark.parametrize("arch", ["llama", "opt", "gpt2", "gemma2"])
def test_token_gates_are_those_at_work(arch: str) -> None:
    base = loud(addenda.NeutralResidues(width=8, gate="token"), arch)
    live: dict[str, set[int]] = {}

    def observer(share: Any, site: str, **facts: Any) -> None:
        part, (_, length) = facts["contribution"], facts["shape"]
        if part is None:
            live[site] = set()
        elif part.index is not None:
            live[site] = set(part.index.tolist())
        else:
            live[site] = set(range(length)) if part.live is None else set(part.live[0, :, 0].nonzero()[:, 0].tolist())

    ids = base.tokenize(TEXT)[None]
    with torch.no_grad(), base.using("m"), base.watching(observer=observer):
        base.model(ids)
    seen = activity(base, "m", TEXT)
    assert seen.measured == "gate"
    assert "".join(seen.tokens) == TEXT
    assert seen.values.shape == (3, len(seen.tokens))
    assert [set(row.nonzero()[0].tolist()) for row in seen.values] == [live[site] for site in sorted(live)]
    assert 0 < (seen.values > 0).mean() < 1
    assert base.selection.empty


def test_kinds_without_a_gate_show_what_they_change() -> None:
    seen = activity(loud(addenda.LoRA(rank=2)), "m", TEXT)
    assert seen.measured == "change"
    assert (seen.values > 0).all()
    assert seen.untouched == 0.0
    fresh = addenda.attach(pico("llama"), pico_tokenizer())
    fresh.new("m", addenda.LoRA(rank=2))
    assert activity(fresh, "m", TEXT).untouched == 1.0


def test_a_context_gate_is_one_row() -> None:
    base = loud(addenda.NeutralResidues(width=8, gate="context"), std=0.05)
    with torch.no_grad():
        base.modules["m"].gate.bias.fill_(1.0)
    seen = activity(base, "m", TEXT)
    assert seen.labels == ("whole module",)
    assert seen.measured == "gate"
    assert (seen.values > 0).all()


def test_neutral_registers_show_their_gate_and_joint_ones_cannot() -> None:
    seen = activity(loud(addenda.Registers(count=4, gate="neutral")), "m", TEXT)
    assert seen.measured == "gate"
    assert seen.values.shape[0] == 3
    assert activity(loud(addenda.Registers(count=4)), "m", TEXT).measured == "slots"


def test_a_long_text_is_cut_and_says_so() -> None:
    seen = activity(loud(addenda.LoRA(rank=2)), "m", "x" * 300)
    assert (len(seen.tokens), seen.cut) == (256, 44)


def test_plain_data_holds_every_value() -> None:
    seen = activity(loud(addenda.NeutralResidues(width=8, gate="token")), "m", TEXT)
    plain = seen.as_dict()
    assert np.allclose([row["values"] for row in plain["rows"]], seen.values, atol=1e-5)


def test_mistakes_are_told() -> None:
    base = loud(addenda.LoRA(rank=2))
    with pytest.raises(SelectionError, match="no module 'law'"):
        activity(base, "law", TEXT)
    with pytest.raises(DataError, match="no token"):
        activity(base, "m", "")
    base.tokenizer = None
    with pytest.raises(AddendaError, match="no tokenizer"):
        activity(base, "m", TEXT)
