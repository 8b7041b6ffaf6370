"""Shards: what is written comes back, whole or not at all, and what is damaged is made anew."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from addenda.core.errors import FileError
from addenda.core.registry import asked_for
from addenda.objectives.objective import Objective
from addenda.writing import shards as shards_file
from addenda.writing.shards import ROWS, Shards, check_space, held, layout_of, packed, unpacked

TOP = asked_for(Objective, "distill(top_k=5)")


def said(count: int, vocabulary: int = 60, seed: int = 0) -> tuple[torch.Tensor, ...]:
    return TOP.teach(3 * torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(seed)))


def written(folder: Path, sizes: list[int]) -> tuple[Shards, np.ndarray]:
    layout = layout_of(TOP, 60)
    rows = packed(said(sum(sizes)), layout)
    made, at = Shards(folder, sizes, layout), 0
    for number, size in enumerate(sizes):
        made.write(number, rows[at : at + size])
        at += size
    return made, rows


@pytest.mark.parametrize("vocabulary", [60, 2**16, 2**16 + 1])
def test_what_is_kept_of_a_token_is_small_and_comes_back(vocabulary: int) -> None:
    layout = layout_of(TOP, vocabulary)
    assert layout.itemsize == 6 * 2 + 5 * (2 if vocabulary <= 2**16 else 4)
    logs, ids = said(7, vocabulary)
    again = unpacked(packed((logs, ids), layout))
    assert torch.equal(again[1], ids)
    assert again[0].dtype == torch.float32
    torch.testing.assert_close(again[0], logs, rtol=1e-3, atol=1e-4)


def test_a_probability_of_nothing_stays_a_number() -> None:
    logits = torch.full((1, 60), -1e9)
    logits[0, :2] = 0.0
    (logs, _) = unpacked(packed(TOP.teach(logits), layout_of(TOP, 60)))
    assert bool(torch.isfinite(logs).all())
    assert float(TOP.cost(logits, torch.zeros(1, dtype=torch.long), TOP.teach(logits))) == pytest.approx(0, abs=1e-5)


def test_rows_are_found_in_any_order(tmp_path: Path) -> None:
    made, rows = written(tmp_path, [5, 3, 9])
    at = np.array([16, 0, -1, 5, 7, 4, 5])
    found = made.rows(at)
    assert np.array_equal(found[at >= 0], rows[at[at >= 0]])
    assert not found[at < 0]["part0"].any()


def test_the_size_told_is_that_on_disk(tmp_path: Path) -> None:
    made, _ = written(tmp_path, [2000, 3000])
    on_disk = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert made.bytes == pytest.approx(on_disk, rel=0.02)


def test_what_is_damaged_is_removed_and_missing(tmp_path: Path) -> None:
    made, _ = written(tmp_path, [5, 3, 9])
    assert Shards(tmp_path, [5, 3, 9], made.layout).missing() == []
    file = made.place(1) / ROWS
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(bytes(raw))
    (made.place(2) / "shard.json").unlink()
    assert Shards(tmp_path, [5, 3, 9], made.layout).missing() == [1, 2]
    assert not made.place(1).exists()
    assert Shards(tmp_path, [6, 3, 9], made.layout).missing() == [0, 1, 2]  # of other records


def test_a_shard_that_cannot_be_written_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = written(tmp_path, [5, 3])

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards_file.np, "save", full)
    with pytest.raises(FileError, match="No space left on device"):
        made.write(1, rows[:3])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["shard-00000", "shard-00001"]
    assert Shards(tmp_path, [5, 3], made.layout).missing() == []


def test_a_disk_without_room_is_told_beforehand(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there", 1)
    with pytest.raises(FileError, match=r"takes 1,005,0.* bytes in .*: give another folder"):
        check_space(tmp_path / "not" / "there", 10**18 + 10**15 * 5)


def test_two_that_want_the_same_wait_for_one_another(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with held(tmp_path):
            order.append("second")

    with held(tmp_path):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.2)
        order.append("first")
    other.join(timeout=20)
    assert order == ["first", "second"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write to"), held(tmp_path / "file"):
        pass
