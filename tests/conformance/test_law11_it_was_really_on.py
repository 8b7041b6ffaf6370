"""Law 11, it was really on: whoever observes a call learns that every site of every selected module ran, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.bases import hooks
from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from addenda.measuring.looking.canary import was_on
from addenda.plug.machinery import Machinery
from addenda.plug.selection import Selection
from conformance.kinds import MAIN, spread
from conformance.world import Subject, Watcher, assert_alive, batch, fresh, generate, logits, subject_of, throwaway


def check_on(subject: Subject, weights: dict[str, float]) -> None:
    """Every site of the selected modules reports once a forward, with its weight; no other module does."""
    base, watcher = subject.base, Watcher()
    with base.using(weights), base.watching(observer=watcher):
        on = logits(base.model, *batch())
    assert set(watcher.seen) == set(weights), "a selected module did not run, or another one did"
    for name, weight in weights.items():
        module = base.modules[name]
        expected = list(module.sites()) + ([module.gate.site] if module.gate is not None else [])
        assert sorted(watcher.seen[name]) == sorted(expected), f"{name} did not run at every site"
        assert watcher.weights[name] == weight, f"{name} ran at {watcher.weights[name]}, not {weight}"
        with base.using({other: w for other, w in weights.items() if other != name}):
            assert not torch.equal(logits(base.model, *batch()), on), f"{name} changes nothing"


@pytest.mark.parametrize(("arch", "case"), spread())
def test_it_was_really_on(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        assert_alive(subject)
        check_on(subject, {"m": 1.0})
        check_on(subject, {"m": 0.5, "n": 2.0})
        watcher = Watcher()
        with subject.base.off(), subject.base.watching(observer=watcher):
            logits(subject.model, *batch())
        assert not watcher.seen
        rows = [{"m": 1.0}, {}, {"m": 0.25}, {}]
        with subject.base.rows(rows), subject.base.watching(observer=watcher):
            logits(subject.model, *batch())
        assert set(watcher.seen) == {"m"}
        assert torch.equal(torch.as_tensor(watcher.weights["m"]).flatten(), torch.tensor([1.0, 0.25]))


@pytest.mark.parametrize(("arch", "case"), [("llama", case) for case in MAIN])
def test_every_step_of_a_generation_is_observed(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        module, watcher = subject.plug("m"), Watcher()
        with subject.base.using("m"), subject.base.watching(observer=watcher):
            generate(subject.model, *batch())
        sites = len(list(module.sites())) + int(module.gate is not None)
        assert len(watcher.seen["m"]) == 6 * sites


@pytest.mark.parametrize(("arch", "case"), [("llama", case) for case in MAIN])
def test_observing_changes_nothing(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        subject.plug("m")
        ids, mask = batch(padded=True)
        for chosen in (subject.base.using("m"), subject.base.rows([{"m": 1.0}, {}, {"m": 0.5}, {"m": 1.0}])):
            with chosen:
                plain = logits(subject.model, ids, mask)
                with subject.base.watching(observer=Watcher()):
                    assert torch.equal(logits(subject.model, ids, mask), plain)


@pytest.mark.parametrize("case", ["neutral", "neutral-context", "registers-neutral", "parallel", "lora"])
def test_a_fresh_or_silent_module_is_on_and_says_that_it_is_silent(case: str) -> None:
    """It runs at every site without an error; that it changes nothing can be seen."""
    with subject_of("llama", case) as subject:
        fresh(subject.base, "m", case)
        watcher = Watcher()
        with subject.base.using("m"), subject.base.watching(observer=watcher):
            assert torch.equal(logits(subject.model, *batch()), subject.bare())
        assert set(watcher.seen["m"]) >= set(subject.base.modules["m"].sites())
        module: Any = subject.plug("silent")
        if subject.gate is None:
            return
        for name, tensor in module.tensors().items():
            if name.endswith("threshold"):
                tensor.fill_(1e6)
        with subject.base.using("silent"), subject.base.watching(observer=watcher):
            assert torch.equal(logits(subject.model, *batch()), subject.bare())
        assert watcher.live["silent"] == 0
        assert watcher.total["silent"] > 0


def check_probe(subject: Subject, folder: Path) -> None:
    """A module that was written for a probe, saved and plugged again, still changes the probe's logits."""
    subject.base.modules["m"].probe = batch()[0][0].tolist()
    subject.base.modules["m"].save(folder / "m")
    subject.base.unplug("m")
    subject.base.plug(folder / "m", name="m")
    with subject.base.using("m"):
        (found,) = was_on(subject.base)
    assert (found.finding, found.sites) == ("on", len(list(subject.base.modules["m"].sites())))


@pytest.mark.parametrize("case", MAIN)
def test_it_changes_the_probe_that_it_was_written_for(case: str, tmp_path: Path) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        check_probe(subject, tmp_path)


# -- mutants --------------------------------------------------------------------------------------------------------


def a_site_is_not_hooked(patch: pytest.MonkeyPatch) -> None:
    """One layer's hook is missing."""
    original = Machinery._wanted

    def wanted(self: Machinery) -> dict[Any, Any]:
        return {key: fit for key, fit in original(self).items() if "layers.1" not in key[1]}

    patch.setattr(Machinery, "_wanted", wanted)


def weights_are_one(patch: pytest.MonkeyPatch) -> None:
    """Every module runs at 1.0."""
    original = Selection.shares

    def shares(self: Selection, *args: Any) -> Any:
        found = original(self, *args)
        for share in found:
            share.weight = 1.0
        return found

    patch.setattr(Selection, "shares", shares)


def only_the_first_module_runs(patch: pytest.MonkeyPatch) -> None:
    """All but one of the selected modules fall out in silence."""
    original = Selection.shares
    patch.setattr(Selection, "shares", lambda self, *args: original(self, *args)[:1])


def it_reports_and_does_nothing(patch: pytest.MonkeyPatch) -> None:
    """The sites report, and their output is thrown away."""
    original = hooks.apply_at

    def nothing(call: Any, site: Any, x: Tensor, y: Tensor, *more: Any) -> Tensor:
        original(call, site, x, y, *more)
        return y

    patch.setattr(hooks, "apply_at", nothing)


@pytest.mark.parametrize("mutant", [a_site_is_not_hooked, weights_are_one, only_the_first_module_runs])
def test_the_canary_catches_it_too(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    subject = throwaway("llama", "lora")
    subject.plug("n", seed=1)
    with subject.base.using({"m": 0.5, "n": 2.0}), pytest.raises(AddendaError, match="but did not run so at layers"):
        was_on(subject.base)


@pytest.mark.parametrize("case", ["neutral", "lora"])
def test_tensors_lost_on_the_way_are_caught(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: what a module adds is zero once it was loaded."""
    subject, original = throwaway("llama", case), KnowledgeModule.adopt

    def adopt(self: KnowledgeModule, tensors: dict[str, Tensor]) -> None:
        original(self, {k: t.zero_() if k.endswith((".down", ".b")) else t for k, t in tensors.items()})

    monkeypatch.setattr(KnowledgeModule, "adopt", adopt)
    with pytest.raises(AddendaError, match="not the ones it was written with"):
        check_probe(subject, tmp_path)


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (a_site_is_not_hooked, "lora"),
        (a_site_is_not_hooked, "neutral"),
        (weights_are_one, "neutral"),
        (only_the_first_module_runs, "cartridge"),
        (it_reports_and_does_nothing, "parallel"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    subject = throwaway("llama", case)
    subject.plug("n", seed=1)
    with pytest.raises(AssertionError):
        check_on(subject, {"m": 0.5, "n": 2.0})
