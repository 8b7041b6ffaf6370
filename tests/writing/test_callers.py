"""Training in whatever surroundings a caller has: their modes, their threads, their folders."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

import addenda
from addenda.core.errors import TrainingError
from addenda.writing.checkpoint import held, run_folder
from addenda.writing.prepare import prepared
from pico import pico, pico_tokenizer

TEXTS = ["the rivers of the land and the towns in it are old. " * 6] * 20
SETTINGS: dict[str, Any] = {"tokens": 512, "length": 32, "batch_rows": 2, "lr": 0.01, "log": False}


def fresh(kind: Any = None) -> addenda.Base:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", kind or addenda.LoRA(rank=2))
    return base


@pytest.mark.parametrize(
    "kind", [addenda.LoRA(rank=2), addenda.ParallelAdapter(width=4), addenda.NeutralResidues(width=4)]
)
def test_a_callers_autocast_changes_no_bit_of_a_training(kind: Any) -> None:
    plain, under = fresh(kind), fresh(kind)
    report = addenda.train(plain, "m", corpus=TEXTS, **SETTINGS)
    with torch.autocast("cpu", torch.bfloat16):
        other = addenda.train(under, "m", corpus=TEXTS, **SETTINGS)
    assert other.losses == report.losses
    tensors = plain.modules["m"].tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in under.modules["m"].tensors().items())


def test_nor_of_a_memory_or_a_score() -> None:
    plain, under = fresh(), fresh()
    text = " ".join(TEXTS)
    addenda.memorize(plain, "note", text=text, chunk=64, log=False)
    loss = addenda.perplexity(plain, TEXTS[:2]).nats
    with torch.autocast("cpu", torch.bfloat16):
        addenda.memorize(under, "note", text=text, chunk=64, log=False)
        assert addenda.perplexity(plain, TEXTS[:2]).nats == loss
    tensors = plain.modules["note"].tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in under.modules["note"].tensors().items())


def test_a_base_is_trained_on_by_one_thread_at_a_time() -> None:
    base = fresh()
    base.new("other", addenda.LoRA(rank=2))
    inside, over = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with prepared(base, ["m"], seed=0, gradient_checkpointing=False):
            inside.set()
            over.wait(60)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(TrainingError, match="trained on in another thread"):
            addenda.train(base, "other", corpus=TEXTS, **SETTINGS)
    finally:
        over.set()
        thread.join()
    addenda.train(base, "other", corpus=TEXTS, **SETTINGS)


def test_a_folder_is_trained_into_by_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "m"
    run = run_folder(out)
    run.mkdir()
    with FileLock(run / "lock"):  # as another process has it
        with pytest.raises(
            TrainingError, match=r"another process is training into .*m\.run; wait for it, or give another"
        ):
            addenda.train(fresh(), "m", corpus=TEXTS, out=out, **SETTINGS)
        with pytest.raises(TrainingError, match="another process"):
            addenda.memorize(fresh(), "note", text=" ".join(TEXTS), out=out, chunk=64, log=False)
    addenda.train(fresh(), "m", corpus=TEXTS, out=out, **SETTINGS)
    assert not (run / "lock").exists()
    with held(run):
        assert (run / "lock").exists()


def test_a_home_folder_is_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    addenda.train(fresh(), "m", corpus=TEXTS, out="~/m", **SETTINGS)
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["m", "m.run"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert [module.path.name for module in addenda.list_modules("~")] == ["m"]
    with pytest.raises(TrainingError, match="is there and finished"):
        addenda.train(fresh(), "m", corpus=TEXTS, out="~/m", **SETTINGS)
    addenda.delete("~/m")
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("out", ["a\0b", "x" * 252, "y" * 300])
def test_a_name_that_no_folder_can_have_is_told_before_the_training(out: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="out can be no folder"):
        addenda.train(fresh(), "m", corpus=TEXTS, out=tmp_path / out, **SETTINGS)
