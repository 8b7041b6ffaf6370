"""Law 7: a run that was interrupted anywhere and resumed equals one that never was, bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
import children
from addenda.core.errors import TrainingError
from addenda.writing import checkpoint
from addenda.writing.step import Stepper
from addenda.writing.validation import Validation

from . import child

HERE = Path(__file__).parent
Make = Callable[..., addenda.Base]


def tensors(base: addenda.Base) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in base.modules["a"].tensors().items()}


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], addenda.TrainReport, Path]:
    """The run that was never interrupted."""
    base, out = child.make(), tmp_path_factory.mktemp("whole") / "a"
    report = addenda.train(base, "a", out=out, **child.RUN)
    return tensors(base), report, out


CASES: dict[str, tuple[str, signal.Signals, int, int]] = {
    "interrupted": ("step", signal.SIGINT, 7, 7),
    "terminated": ("step", signal.SIGTERM, 7, 7),
    "killed": ("step", signal.SIGKILL, -signal.SIGKILL, 6),
    "killed-writing": ("write", signal.SIGKILL, -signal.SIGKILL, 4),
}


def appeared(file: Path, process: subprocess.Popen[str], seconds: float = 240) -> str:
    """The contents of a file that another process makes."""
    end = time.monotonic() + seconds
    while not file.exists():
        if (process.poll() is not None and not file.exists()) or time.monotonic() > end:
            process.kill()
            pytest.fail(f"no {file.name}: {process.communicate()[0]}")
        time.sleep(0.02)
    return file.read_text()


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int]]:
    """Runs that were really sent signals: where each was writing, and how its process ended."""
    folder = tmp_path_factory.mktemp("broken")
    environment = children.environment(HERE.parent)
    places = [part for name, case in CASES.items() for part in (str(folder / name), case[0])]
    command = [sys.executable, str(HERE / "child.py"), *places]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = {}
    try:
        for name, case in CASES.items():
            os.kill(int(appeared(folder / f"{name}.here", process)), case[1])
        for name in CASES:
            found[name] = folder / name, int(appeared(folder / f"{name}.code", process))
    finally:
        process.kill()
        process.communicate()
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_killed_process_is_taken_up_bit_by_bit(whole: Any, broken_off: Any, case: str) -> None:
    wanted, report, finished = whole
    _, number, code, last = CASES[case]
    out, ended = broken_off[case]
    run = checkpoint.run_folder(out)
    assert ended == code
    if number != signal.SIGKILL:
        told = out.with_name(out.name + ".told").read_text()
        assert f"stopped by {number.name} after step 7 of 12; the same call with resume=True goes on from {run}" in told
    assert bool(list(run.glob(".addenda-*.tmp"))) == (case == "killed-writing")
    found = checkpoint.newest(run)
    assert found is not None
    assert found.step == last
    assert not out.exists()  # no half module
    assert any(not torch.equal(found.tensors[f"value.0.{name}"], tensor) for name, tensor in wanted.items())

    base = child.make()
    resumed = addenda.train(base, "a", out=out, resume=True, **child.RUN)
    assert_equal(tensors(base), wanted)
    assert resumed.resumed_from == last
    assert resumed.data_crc == report.data_crc
    assert resumed.losses == report.losses
    assert (resumed.learning, resumed.forgetting) == (report.learning, report.forgetting)
    assert not list(run.glob(".addenda-*.tmp"))
    assert (out / "module.safetensors").read_bytes() == (finished / "module.safetensors").read_bytes()
    assert plain(run) == plain(finished.with_name("a.run"))


def plain(run: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


class Enough(Exception):
    """Stops a run at once, as a power cut would."""


def stopped_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Stepper.take

    def take(self: Stepper, number: int, passes: Any) -> Any:
        if number == step:
            raise Enough
        return original(self, number, passes)

    monkeypatch.setattr(Stepper, "take", take)


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "context": (addenda.NeutralResidues(width=8, gate="context"), {"isolate": True}),
    "lora": (addenda.LoRA(rank=2), {"precision": "bf16", "accumulate": 2, "tokens": 2048}),
    "registers": (addenda.Registers(count=4, mode="avg", init="text"), {"objective": "distill", "context": 16}),
    "cartridge": (addenda.Cartridge(count=4, init="text"), {"gradient_checkpointing": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taken_up(
    make_base: Make, quick: dict[str, Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, more = KINDS[kind]
    given = quick | {"checkpoint_every": 3} | more
    straight, cut, again = (make_base() for _ in range(3))
    for base in (straight, cut, again):
        base.new("a", config)
    report = addenda.train(straight, "a", **given, out=tmp_path / "straight")
    stopped_at(monkeypatch, 5)
    with pytest.raises(Enough):
        addenda.train(cut, "a", **given, out=tmp_path / "cut")
    monkeypatch.undo()
    resumed = addenda.train(again, "a", **given, out=tmp_path / "cut", resume=True)
    assert_equal(tensors(again), tensors(straight))
    assert (resumed.resumed_from, resumed.data_crc) == (3, report.data_crc)
    assert resumed.seconds_here is not None
    assert 0 < resumed.seconds_here < resumed.seconds  # those before the interruption are not this call's
    assert resumed.tokens_per_second == pytest.approx(5 / 8 * resumed.tokens / resumed.seconds_here)


def test_two_modules_are_taken_up(
    make_base: Make, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = quick | {"corpus": {"a": quick["corpus"], "b.2..x-": ["OTHER WORDS TO LEARN. " * 9] * 20}}
    bases = [make_base() for _ in range(3)]
    for base in bases:
        base.new("a", addenda.NeutralResidues(width=8))
        base.new("b.2..x-", addenda.LoRA(rank=2))
    addenda.train(bases[0], ["a", "b.2..x-"], **given)
    stopped_at(monkeypatch, 4)
    with pytest.raises(Enough):
        addenda.train(bases[1], ["a", "b.2..x-"], **given, out=tmp_path / "x")
    monkeypatch.undo()
    addenda.train(bases[2], ["a", "b.2..x-"], **given, out=tmp_path / "x", resume=True)
    for name in ("a", "b.2..x-"):
        one, two = (base.modules[name].tensors() for base in (bases[0], bases[2]))
        assert_equal(one, two)


def test_the_mutant_a_checkpoint_without_moments_is_caught(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import addenda.writing.keeping as keeping

    stopped_at(monkeypatch, 6)
    with pytest.raises(Enough):
        addenda.train(child.make(), "a", out=tmp_path / "a", **child.RUN)
    monkeypatch.undo()
    monkeypatch.setattr(keeping, "load_optimizer_tensors", lambda *_: None)
    base = child.make()
    addenda.train(base, "a", out=tmp_path / "a", resume=True, **child.RUN)
    with pytest.raises(AssertionError):
        assert_equal(tensors(base), whole[0])


def test_a_finished_run_is_taken_up_without_a_step(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, report, out = whole
    stopped_at(monkeypatch, 0)
    base = child.make()
    again = addenda.train(base, "a", out=out, resume=True, **child.RUN)
    assert_equal(tensors(base), wanted)
    assert again.steps == report.steps == again.resumed_from
    assert again.learning == report.learning


def test_nothing_to_resume_starts_at_the_beginning(whole: Any, tmp_path: Path) -> None:
    base = child.make()
    report = addenda.train(base, "a", out=tmp_path / "new", resume=True, **child.RUN)
    assert report.resumed_from is None
    assert_equal(tensors(base), whole[0])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lr": 3e-2}, r"lr: {'a': 0.01} then, {'a': 0.03} now"),
        ({"batch_rows": 2, "tokens": 12 * 2 * 32}, "batch_rows: 4 then, 2 now"),
        ({"seed": 5}, "seed: 0 then, 5 now"),
        ({"validation": child.RUN["validation"] | {"learning": ["other words. "] * 9}}, "validation: "),
        ({"corpus": ["other words to learn. "] * 99}, "corpus: "),
        ({"tokens": 24 * 4 * 32}, "steps: 12 then, 24 now"),
    ],
)
def test_other_settings_are_refused_by_name(whole: Any, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        addenda.train(child.make(), "a", out=whole[2], resume=True, **child.RUN | changed)


def test_another_module_is_refused(whole: Any) -> None:
    base = child.make()
    base.unplug("a")
    base.new("a", addenda.NeutralResidues(width=16))
    with pytest.raises(TrainingError, match=r"modules: .*'width': 8.* then, .*'width': 16"):
        addenda.train(base, "a", out=whole[2], resume=True, **child.RUN)


def test_what_changes_nothing_may_change(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_at(monkeypatch, 6)
    with pytest.raises(Enough):
        addenda.train(child.make(), "a", out=tmp_path / "a", **child.RUN)
    monkeypatch.undo()
    base = child.make()
    other = child.RUN | {"checkpoint_every": 5, "keep": 1, "keep_run": True}
    addenda.train(base, "a", out=tmp_path / "a", resume=True, **other)
    assert_equal(tensors(base), whole[0])
    assert len(checkpoint.folders(tmp_path / "a.run")) == 1


def test_validation_is_part_of_the_state(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[float | None, int]] = []
    original = Validation.improved

    def improved(self: Validation, found: Any) -> bool:
        held.append((self.best, self.waited))
        return original(self, found)

    stopped_at(monkeypatch, 8)
    with pytest.raises(Enough):
        addenda.train(child.make(), "a", out=tmp_path / "a", **child.RUN)
    monkeypatch.undo()
    monkeypatch.setattr(Validation, "improved", improved)
    addenda.train(child.make(), "a", out=tmp_path / "a", resume=True, **child.RUN)
    assert held[0][0] is not None
