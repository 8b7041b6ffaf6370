"""Checkpoints: whole or not at all, the last good ones kept."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from addenda.core.errors import TrainingError
from addenda.writing import checkpoint

TENSORS = {"value.0.x": torch.randn(3, 4), "optimizer.0.step.x": torch.tensor(3.0), "rng.torch": torch.get_rng_state()}
STATE = {"position": {"number": 3}, "best": None, "loss": 0.1 + 0.2}


def write(run: Path, step: int, keep: int = 2) -> Path:
    return checkpoint.write(run, step, STATE, TENSORS, keep)


def test_a_round_trip_is_bit_equal(tmp_path: Path) -> None:
    write(tmp_path, 3)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 3
    assert {k: found.state[k] for k in STATE} == STATE
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[k], t) and found.tensors[k].dtype == t.dtype for k, t in TENSORS.items())


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (1, 5, 10, 200):
        write(tmp_path, step)
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["step-00000010", "step-00000200"]
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("*.pkl"))


def test_a_run_that_kept_nothing_leaves_no_folder(tmp_path: Path) -> None:
    run = checkpoint.begin(tmp_path / "m", resume=False)
    assert run is not None
    assert run.is_dir()
    checkpoint.leave(run)
    assert not run.exists()
    checkpoint.leave(run)
    checkpoint.leave(None)
    write(run, 1)
    checkpoint.leave(run)
    assert len(checkpoint.folders(run)) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "state cut", "missing"])
def test_a_broken_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 1)
    folder = write(tmp_path, 2)
    file = folder / (checkpoint.STATE if damage == "state cut" else checkpoint.TENSORS)
    raw = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    else:
        file.write_bytes(raw[: len(raw) // 2])
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    (tmp_path / "step-00000001" / checkpoint.STATE).write_text("{}")
    with pytest.raises(TrainingError, match=r"no checkpoint in .* can be read"):
        checkpoint.newest(tmp_path)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "nothing") is None


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)

    def full(path: Path, *_: Any) -> str:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(
        TrainingError, match=r"after step 2 was not written: .*No space left.*last good one is .*step-0+1"
    ):
        write(tmp_path, 2)
    monkeypatch.undo()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_what_an_interrupted_write_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".addenda-abc.tmp"
    left.mkdir()
    (left / "half").write_bytes(b"x")
    checkpoint.clear(tmp_path)
    assert not left.exists()


def test_the_run_stands_beside_the_module() -> None:
    assert checkpoint.run_folder("runs/pubmed") == Path("runs/pubmed.run")
    assert checkpoint.run_folder("runs/v1.2") == Path("runs/v1.2.run")
