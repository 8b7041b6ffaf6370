"""Law 7, resume is exact: a run killed in the middle and taken up again gives the bits of one that never was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.writing.corpus_run import CorpusRun
from conformance.client import OtherProcess
from conformance.kinds import CASES, MAIN, spread
from conformance.world import Subject, assert_alive, assert_values, throwaway, values

SUBJECT = [f"the heart and the liver of patient {n} is treated with drug {n % 7}. " * 3 for n in range(30)]
GENERAL = [f"A river runs in the town {n} and on to the sea; {n % 5} boats! " * 3 for n in range(15)]
STEPS, KILL = 4, 2


def run_of(subject: Subject, out: Path | None, **more: Any) -> addenda.TrainReport:
    """A run of four small steps of module `m`, a checkpoint after each."""
    settings: dict[str, Any] = {"length": 16, "batch_rows": 4, "shuffle_tokens": 256, "lr": 1e-2, "log": False}
    if out is not None:
        settings["checkpoint_every"] = 1
    return addenda.train(
        subject.base,
        "m",
        corpus=SUBJECT,
        replay=GENERAL,
        replay_share=0.25,
        tokens=STEPS * 64,
        out=out,
        **settings,
        **more,
    )


def tensors_of(subject: Subject) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in subject.base.modules["m"].tensors().items()}


def check_resume(arch: str, case: str, other: OtherProcess, folder: Path) -> None:
    """Whole = killed and resumed: parameters, buffers, losses, the order of the data."""
    whole = throwaway(arch, case)
    assert_alive(whole)
    before, numbers = tensors_of(whole), values(whole.model)
    report = run_of(whole, None)
    wanted = tensors_of(whole)
    assert any(not torch.equal(wanted[name], tensor) for name, tensor in before.items()), "nothing was trained"
    assert_values(whole.model, numbers)
    said = other.ask(task="train", arch=arch, case=case, out=str(folder / "m"), kill=KILL)
    assert said == "killed", said
    again = throwaway(arch, case)
    with torch.no_grad():
        for parameter in again.base.modules["m"].parameters():
            parameter.zero_()  # everything comes from the checkpoint
    resumed = run_of(again, folder / "m", resume=True)
    assert resumed.resumed_from == KILL
    found = tensors_of(again)
    far = [name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)]
    assert not far, f"resumed, these differ: {far}"
    assert resumed.losses == report.losses
    assert resumed.data_crc == report.data_crc
    assert_values(again.model, numbers)


@pytest.mark.parametrize(("arch", "case"), spread(MAIN))
def test_resume_is_exact(arch: str, case: str, other: OtherProcess, tmp_path: Path) -> None:
    check_resume(arch, case, other, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "case"), spread({name: case for name, case in CASES.items() if name not in MAIN}))
def test_resume_is_exact_for_every_configuration(arch: str, case: str, other: OtherProcess, tmp_path: Path) -> None:
    check_resume(arch, case, other, tmp_path)


# -- mutants --------------------------------------------------------------------------------------------------------


def optimizer_starts_anew(patch: pytest.MonkeyPatch) -> None:
    """The optimizer's moments are forgotten."""
    original = CorpusRun.resume

    def resume(self: CorpusRun) -> Any:
        found = original(self)
        for moments in self.stepper.optimizers.values():
            for state in moments.state.values():
                for tensor in state.values():
                    if isinstance(tensor, Tensor):
                        tensor.zero_()
        return found

    patch.setattr(CorpusRun, "resume", resume)


def parameters_are_rounded(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint keeps parameters in bfloat16."""
    original = CorpusRun.resume

    def resume(self: CorpusRun) -> Any:
        found = original(self)
        with torch.no_grad():
            for module in self.base.modules.values():
                for parameter in module.parameters():
                    parameter.copy_(parameter.bfloat16())
        return found

    patch.setattr(CorpusRun, "resume", resume)


@pytest.mark.parametrize("mutant", [optimizer_starts_anew, parameters_are_rounded])
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    other: OtherProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="differ"):
        check_resume("llama", "lora", other, tmp_path)
