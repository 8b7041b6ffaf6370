"""Law 12: calibrated numbers are buffers, and what is derived from parameters follows every change of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from addenda.bases.reading import BaseReader
from addenda.core.contracts import AttentionAdapter, GatedAdapter
from addenda.core.module import KnowledgeModule
from addenda.gates.context import ContextGate
from conformance.kinds import CASES, home, spread
from conformance.world import Subject, assert_alive, batch, logits, subject_of, throwaway


def follows(subject: Subject, what: str) -> None:
    """Module `m` now gives what a module without any past gives that has the same tensors."""
    base, module = subject.base, subject.base.modules["m"]
    with base.using("m"):
        found = logits(base.model, *batch())
        assert torch.equal(found, logits(base.model, *batch()))
    other = base.new("other", module.kind, gate=CASES[subject.case].behind)
    other.adopt({name: tensor.clone() for name, tensor in module.tensors().items()})
    with base.using("other"):
        expected = logits(base.model, *batch())
    base.unplug("other")
    assert torch.equal(found, expected), f"after {what} the module answers from what it was before"


def check_follows(subject: Subject) -> None:
    """In-place changes, optimizer steps, loads, new storage, dtype moves: nothing derived outlives them."""
    base, module = subject.base, subject.base.modules["m"]
    follows(subject, "plugging")
    start = {name: tensor.clone() for name, tensor in module.tensors().items()}
    with base.using("m"):
        before = logits(base.model, *batch())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    follows(subject, "an in-place change")
    with base.using("m"):
        assert not torch.equal(logits(base.model, *batch()), before)
    module.load_tensors(start)
    follows(subject, "load_tensors")
    with base.using("m"):
        assert torch.equal(logits(base.model, *batch()), before)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    ids = batch()[0]
    with base.frozen(), base.using("m"):
        base.model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    follows(subject, "an optimizer's step")
    for parameter in module.parameters():
        parameter.data = parameter.data * 1.1
    follows(subject, "new storage")
    with torch.no_grad():
        for buffer in module.buffers():
            buffer.copy_(buffer // 2 if buffer.dtype == torch.uint8 else buffer * 0.5)  # packed codes: other ones
    follows(subject, "a changed buffer")
    module.to(torch.bfloat16)
    follows(subject, "a move to bfloat16")
    module.to(torch.float32)
    follows(subject, "a move back")
    module.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in module.state_dict().items()})
    follows(subject, "load_state_dict")
    module.adopt(start)
    follows(subject, "adopt")


@pytest.mark.parametrize(("arch", "case"), spread())
def test_derived_values_follow(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        subject.plug("m")
        assert_alive(subject)
        check_follows(subject)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(("registers", "cartridge"))])
def test_keys_and_values_are_computed_once(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with subject_of("llama", case) as subject, torch.no_grad():
        subject.plug("m")
        counted: list[str] = []
        original = BaseReader.materialise
        monkeypatch.setattr(
            BaseReader, "materialise", lambda self, module: counted.append(module.name) or original(self, module)
        )
        with subject.base.using("m"):
            for _ in range(4):
                logits(subject.model, *batch())
        assert len(counted) <= 1, f"keys and values were computed {len(counted)} times"
        with subject.base.rows([{"m": 1.0}, {}, {"m": 2.0}, {"m": 1.0}]):
            logits(subject.model, *batch())
        assert len(counted) <= 1
        # the base's dtype is part of it, and another module under the same name is another module
        subject.base.unplug("m")
        subject.plug("m", seed=1)
        follows(subject, "a new module under an old name")


@pytest.mark.parametrize("case", ["registers", "registers-neutral", "cartridge", "neutral", "lora"])
def test_a_base_that_changes_its_dtype_takes_its_modules_along(case: str) -> None:
    subject = throwaway("llama", case)
    with subject.base.using("m"):
        before = logits(subject.model, *batch())
        subject.model.to(torch.bfloat16)
        found = logits(subject.model, *batch())
        subject.model.to(torch.float32)
    subject.model.to(torch.bfloat16)
    follows(subject, "the base's move to bfloat16")
    assert not torch.equal(found, before)
    assert float((found - before).abs().max()) < 0.2 * float(before.abs().max())


def check_buffers(subject: Subject, folder: Path) -> None:
    """Calibrated numbers move, save and load with the module, and no optimizer touches them."""
    module = subject.plug("m")
    buffers = {f"gate.{name}" for name, _ in module.gate.named_buffers()} if module.gate is not None else set()
    found = {key: t.clone() for key, t in module.tensors().items() if key.endswith(".threshold") or key in buffers}
    assert len(found) >= (2 if module.gate is not None else len(list(module.sites())))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.5)
    ids = batch()[0]
    with subject.base.frozen(), subject.base.using("m"):
        subject.model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    assert all(torch.equal(module.tensors()[key], value) for key, value in found.items()), (
        "training moved a calibrated number"
    )
    module.save(folder / "m")
    loaded = subject.base.plug(folder / "m", name="loaded")
    assert all(torch.equal(loaded.tensors()[key], value) for key, value in found.items())
    loaded.to(torch.float64)
    assert all(loaded.tensors()[key].dtype == torch.float64 for key in found)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].gate])
def test_calibrated_numbers_are_buffers(case: str, tmp_path: Path) -> None:
    with subject_of(home(case), case) as subject:
        check_buffers(subject, tmp_path)


# -- mutants --------------------------------------------------------------------------------------------------------


def never_invalidated(patch: pytest.MonkeyPatch) -> None:
    """Keys and values are kept for as long as the module has its name."""
    patch.setattr(KnowledgeModule, "version", lambda self: ())


def keyed_on_storage_alone(patch: pytest.MonkeyPatch) -> None:
    """In-place changes are not seen."""
    patch.setattr(
        KnowledgeModule, "version", lambda self: tuple((t.data_ptr(), t.dtype) for t in self.state_dict().values())
    )


def keyed_on_versions_alone(patch: pytest.MonkeyPatch) -> None:
    """New storage with an old counter is not seen."""
    patch.setattr(
        KnowledgeModule, "version", lambda self: tuple(t._version for t in self.state_dict(keep_vars=True).values())
    )


@pytest.mark.parametrize("case", ["neutral", "neutral-context", "registers-neutral"])
def test_a_threshold_that_learns_is_caught(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: calibrated numbers are registered as parameters."""

    def register(self: torch.nn.Module, name: str, tensor: Any, persistent: bool = True) -> None:
        self.register_parameter(name, None if tensor is None else torch.nn.Parameter(tensor))

    for owner in (GatedAdapter, AttentionAdapter, ContextGate):
        monkeypatch.setattr(owner, "register_buffer", register, raising=False)
    subject: Any = throwaway("llama", "lora")
    subject.base.unplug("m")
    subject.case = case
    with pytest.raises(AssertionError):
        check_buffers(subject, tmp_path)


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (never_invalidated, "registers"),
        (never_invalidated, "cartridge-random"),
        (keyed_on_storage_alone, "registers-neutral"),
        (keyed_on_versions_alone, "registers"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject: Any = throwaway("llama", case)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_follows(subject)
