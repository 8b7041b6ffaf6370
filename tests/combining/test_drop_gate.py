"""Merging without a gate: what is written computes what the module does with its gate held open, and the loss is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.gates.document import Document
from conformance.world import cut_gates
from pico import pico, pico_tokenizer, random_ids

SUBJECT = ["the patients were given insulin and the dose was raised twice a week. " * 8] * 60
GENERAL = ["once upon a time a miller had three sons and a cat that could speak. " * 8] * 60
KINDS: dict[str, Any] = {
    "lora": addenda.LoRA(2),
    "parallel": addenda.ParallelAdapter(width=8),
    "neutral": addenda.NeutralResidues(width=8, read_at=1),
}


def made(kind: str) -> addenda.Base:
    """A base with a perturbed module behind a document gate that is open here and shut there."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    gate = None if kind == "neutral" else Document(read_at=1)
    module = base.new("m", KINDS[kind], gate=gate)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)), alpha=0.1)
    cut_gates(base, module)
    return base


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_the_module_with_its_gate_open(kind: str, tmp_path: Path) -> None:
    base, ids = made(kind), random_ids(2, 12, seed=5)
    report = addenda.merge(base, "m", out=tmp_path / "out", drop_gate=[SUBJECT, GENERAL])
    merged = addenda.load_base(tmp_path / "out", dtype=torch.float32).model
    with torch.no_grad(), base.using("m"):
        gated = base.model(ids).logits
        base.modules["m"].gate = None
        opened = base.model(ids).logits
    with torch.no_grad():
        found = merged(ids).logits
    assert (found - opened).abs().max() <= 1e-4 * opened.abs().max()
    assert (gated - opened).abs().max() > 1e-2 * opened.abs().max()  # it does shut, so leaving it out is a loss
    assert report.proof is None
    assert report.approximation is not None
    assert report.approximation.fitted_on == 0
    assert len(report.approximation.losses) == 2
    assert "m without gates; loss:" in str(report)
    assert all(loss.merged != loss.plugged for loss in report.approximation.losses)


def test_mistakes(tmp_path: Path) -> None:
    base = made("lora")
    base.new("plain", addenda.LoRA(2))
    out = tmp_path / "out"
    with pytest.raises(AddendaError, match="none of these modules stands behind a gate: leave drop_gate out"):
        addenda.merge(base, "plain", out=out, drop_gate=[GENERAL])
    with pytest.raises(AddendaError, match="approximate or drop_gate, not both"):
        addenda.merge(base, "m", out=out, drop_gate=[GENERAL], approximate=[SUBJECT])
    with pytest.raises(AddendaError, match="reads the document so far.*--drop-gate SUBJECT_TEXT"):
        addenda.merge(base, "m", out=out, probe=SUBJECT)
    assert not out.exists()
