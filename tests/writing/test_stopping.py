"""Where a run is stopped, what it keeps: in its validation, while it reads, before its first step; and how it is finished."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import TrainingError
from addenda.telling.interrupts import Interrupts
from addenda.telling.progress import tick
from addenda.writing import checkpoint, validation
from addenda.writing import train as training
from addenda.writing.packing import Stream
from addenda.writing.signals import TrainingStopped
from addenda.writing.step import Stepper
from addenda.writing.writer import Writer

from . import child
from .test_resume import Enough, assert_equal, plain, stopped_at, tensors


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def run(out: Path, **more: Any) -> tuple[addenda.Base, addenda.TrainReport]:
    base = child.make()
    return base, addenda.train(base, "a", out=out, **child.RUN | more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[addenda.Base, addenda.TrainReport, Path]:
    """The run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "a"
    return (*run(out), out)


def in_validation(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Interrupt within the given validation, after its first text."""
    original, count = validation.score, [0]

    def score(*args: Any, **options: Any) -> Any:
        found = original(*args, **options)
        count[0] += 1
        if count[0] == 2 * number + 1:  # bare and own of two texts in the first, own alone in the others
            interrupt()
        return found

    monkeypatch.setattr(validation, "score", score)


@pytest.mark.parametrize(("number", "step"), [(1, 3), (2, 6), (4, 12)])
def test_an_interrupt_in_a_validation_keeps_the_step(
    whole: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    step: int,
) -> None:
    base, report, out = whole
    with monkeypatch.context() as patch:
        in_validation(patch, number)
        with pytest.raises(TrainingStopped, match=f"stopped by SIGINT after step {step} of 12; .*finish=True it keeps"):
            run(tmp_path / "a")
    told = capsys.readouterr().err
    assert (
        f"SIGINT: stopping after this batch (validating); step {step} of 12 is kept; a checkpoint is kept in " in told
    )
    resumed_base, resumed = run(tmp_path / "a", resume=True)
    assert resumed.resumed_from == step
    assert_equal(tensors(resumed_base), tensors(base))
    assert (resumed.learning, resumed.forgetting, resumed.losses) == (report.learning, report.forgetting, report.losses)
    assert plain(tmp_path / "a.run") == plain(out.with_name("a.run"))


def test_an_interrupt_while_the_corpus_is_read_loses_no_row(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, originally, steps = Stream._documents, Stepper.take, [0]

    def documents(self: Stream) -> Any:
        for document in original(self):
            if steps[0] >= 2:  # within the rows of a later step
                interrupt()
                tick()
            yield document

    def take(self: Stepper, step: int, passes: Any) -> Any:
        steps[0] = step + 1
        return originally(self, step, passes)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "_documents", documents)
        patch.setattr(Stepper, "take", take)
        with pytest.raises(TrainingStopped, match=r"after step [1-9]\d* of 12"):
            run(tmp_path / "a")
    base, report = run(tmp_path / "a", resume=True)
    assert_equal(tensors(base), tensors(whole[0]))
    assert report.data_crc == whole[1].data_crc


def test_before_the_first_step_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> None:
        interrupt()
        tick()

    base = child.make()
    base.unplug("a")
    base.new("a", addenda.NeutralResidues(width=8, gate="context"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_from_plan", fit)
        with pytest.raises(TrainingStopped, match="before the first step; nothing was trained yet"):
            addenda.train(base, "a", out=tmp_path / "a", **child.RUN)
    assert not list(tmp_path.iterdir())
    assert addenda.train(base, "a", out=tmp_path / "a", **child.RUN).steps == 12


def test_a_run_that_was_interrupted_is_finished_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stopped_at(patch, 7)
        with pytest.raises(Enough):
            run(tmp_path / "a", patience=None)
    kept = checkpoint.newest(tmp_path / "a.run")
    assert kept is not None
    monkeypatch.setattr(Stepper, "take", None)  # not one step more
    base, report = run(tmp_path / "a", patience=None, finish=True)
    assert (report.steps, report.planned_steps, report.tokens) == (6, 12, 6 * 4 * 32)
    assert "768 tokens in 6 of 12 steps (ended early)" in str(report)
    assert report.loss > 0
    assert_equal(tensors(base), checkpoint_values(kept.tensors))
    card = json.loads((tmp_path / "a" / "card.json").read_text())["training"][0]
    assert (card["steps"], card["settings"]["ended"]) == (6, "finished early, at step 6 of 12")
    assert "finished early, at step 6 of 12" in (tmp_path / "a" / "README.md").read_text()
    # what was measured was measured of what was saved
    held_out = child.RUN["validation"]["learning"]
    with base.off():
        bare = addenda.perplexity(base, held_out, length=32, tokens=500)
    with base.using("a"):
        gain = bare.minus(addenda.perplexity(base, held_out, length=32, tokens=500)).nats
    assert report.learning["a"]["learning"]["value"] == pytest.approx(gain, abs=1e-6)
    assert not checkpoint.folders(tmp_path / "a.run")
    again, told = run(tmp_path / "a", patience=None, resume=True)
    assert (told.steps, told.learning) == (6, report.learning)
    assert_equal(tensors(again), tensors(base))


def checkpoint_values(kept: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("value.0."): t for name, t in kept.items() if name.startswith("value.0.")}


def test_there_must_be_something_to_finish(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no checkpoint in .*a.run to finish from"):
        run(tmp_path / "a", finish=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainingError, match="without out="):
        addenda.train(child.make(), "a", finish=True, **child.RUN)


def test_a_finished_run_without_checkpoints_is_told_again(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base, report, out = whole
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert sorted(file.name for file in out.with_name("a.run").iterdir()) == ["finished.json", "log.jsonl"]
    assert report.freed > 0
    assert "checkpoints of " in str(report)
    monkeypatch.setattr(Stepper, "take", None)
    again, told = run(out, resume=True)
    assert_equal(tensors(again), tensors(base))
    assert (told.losses, told.learning, told.history) == (report.losses, report.learning, report.history)
    assert told.resumed_from == told.steps == 12
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert again.modules["a"].probe == base.modules["a"].probe
    with pytest.raises(TrainingError, match="seed: 0 then, 5 now"):
        run(out, resume=True, seed=5)
    with pytest.raises(TrainingError, match="is there and finished"):
        run(out)


def test_a_finished_run_whose_module_is_gone(tmp_path: Path) -> None:
    import shutil

    run(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(TrainingError, match="finished run, whose module is gone"):
        run(tmp_path / "a", resume=True)
    assert run(tmp_path / "a")[1].steps == 12


def test_checkpoints_are_kept_where_that_is_asked(tmp_path: Path) -> None:
    _, report = run(tmp_path / "a", keep_run=True)
    assert len(checkpoint.folders(tmp_path / "a.run")) == 2
    assert report.freed == 0
    assert run(tmp_path / "a", keep_run=True, resume=True)[1].resumed_from == 12


TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way. " * 3
READING: dict[str, Any] = {"text": TEXT, "window": 48, "chunk": 16, "lr": 1e-2, "log": False, "checkpoint_every": 2}


def memory(out: Path, **more: Any) -> tuple[addenda.Base, Any]:
    base = child.make()
    base.unplug("a")
    kind = addenda.LocasGLU(4, scale=16.0)
    return base, addenda.memorize(base, "a", kind=kind, out=out, **READING | more)


def test_a_memory_is_stopped_and_finished_or_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, report = memory(tmp_path / "whole", passes=2)
    original, count = Writer.take, [0]

    def take(self: Writer, *args: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] == 9:
            interrupt()
        return original(self, *args, **options)

    for name in ("on", "end"):
        count[0] = 0
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "take", take)
            with pytest.raises(TrainingStopped, match=r"after chunk 9 of \d+; .* with finish=True it keeps"):
                memory(tmp_path / name, passes=2)
    base, on = memory(tmp_path / "on", passes=2, resume=True)
    assert_equal(tensors(base), tensors(whole))
    assert (on.read, on.tokens, on.ended) == (report.read, report.tokens, None)
    assert report.read == 2 * report.tokens
    assert f"{report.read:,} tokens read and written ({report.tokens:,} in 2 passes) in" in str(report)
    assert not checkpoint.folders(tmp_path / "on.run")
    _, ended = memory(tmp_path / "end", passes=2, finish=True)
    assert ended.read == 9 * 16
    assert ended.ended == f"finished early, at chunk 9 of {2 * -(-report.tokens // 16)}"
    card = json.loads((tmp_path / "end" / "card.json").read_text())["training"][0]
    assert card["settings"]["ended"] == ended.ended
    again, told = memory(tmp_path / "on", passes=2, resume=True)
    assert_equal(tensors(again), tensors(whole))
    assert told.texts["a"].nats == on.texts["a"].nats


def test_plain_training_stops_and_goes_on(tmp_path: Path) -> None:
    from addenda.telling.interrupts import Stopped
    from addenda.writing.plain import PlainTraining
    from pico import pico, pico_tokenizer

    def made(work: Path) -> tuple[Any, PlainTraining]:
        model = pico("llama", num_hidden_layers=2)
        return model, PlainTraining(
            model, pico_tokenizer(), child.MEDICAL, child.GENERAL, lr=1e-2, seed=0, rows=4, length=32, work=work
        )

    whole, training = made(tmp_path / "whole")
    training.run(8 * 4 * 32)
    model, training = made(tmp_path / "parts")

    def stopped() -> None:
        with Interrupts():
            training.run(8 * 4 * 32, lambda step, steps: interrupt() if step == 3 else None)

    with pytest.raises(Stopped):
        stopped()
    model, training = made(tmp_path / "parts")
    training.run(8 * 4 * 32)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))
