"""PEFT's LoRA checks ours: from the same start, on the same rows at the same rate, both learn and forget the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import addenda
from addenda.comparing import peft_methods
from addenda.comparing.methods import METHODS, Size
from addenda.modulefile.peft_format import save_peft
from addenda.telling.intervals import of_ratio


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ours_and_peft_agree_document_by_document(ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the start is taken over from ours: what differs between two random starts is many times what is asked here."""
    base, put, rate = addenda.load_base(ways.folder), peft_methods.Rival.put, METHODS["lora"].rates[1]
    made: list[int] = []

    @torch.no_grad()
    def from_our_start(rival: peft_methods.Rival, model: Any, start: Any = None) -> None:
        put(rival, model, start)
        seed = torch.initial_seed()
        kind = METHODS["lora"].kind
        assert kind is not None
        module = base.new("start", kind(base, Size(0.2, 8, 4)), seed=seed)
        first = load_file(save_peft(module, tmp_path / f"start-{seed}", base) / "adapter_model.safetensors")
        base.unplug("start")
        for name, value in first.items():
            inner = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
            model.get_parameter(inner).copy_(value)
        made.append(len(first))

    monkeypatch.setattr(peft_methods.Rival, "put", from_our_start)
    found = ways.compare(
        tmp_path / "out", methods=("lora", "peft"), rates=1, tokens=8192, held_tokens=4000,
        corpus=ways.text(ways.words, 0, 800), learning=ways.text(ways.words, 2, 400),
        replay=ways.text(ways.plain, 1, 800), forgetting=ways.text(ways.plain, 3, 400),
    )  # fmt: skip
    assert made[0] == made[1] > 0
    _, ours, theirs = found.rows
    assert ours.rate == theirs.rate == rate
    assert ours.parameters == theirs.parameters
    assert ours.learned.value > 0.5
    records = [json.loads(file.read_text()) for file in (tmp_path / "out" / "records").glob("*.json")]
    for on in ("learning", "forgetting"):
        sums = {
            name: np.mean([r[on]["sums"] for r in records if r["identity"]["method"] == name], axis=0)
            for name in ("lora", "peft")
        }
        counts = np.array(records[0][on]["counts"], float)
        difference = of_ratio(sums["lora"] - sums["peft"], counts)
        assert difference.n > 50
        assert difference.high - difference.low < 0.02
        assert difference.low < 1e-5  # covers zero, up to what another order of additions may do
        assert difference.high > -1e-5
