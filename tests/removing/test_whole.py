"""A module that is forgotten whole: the base is bit-equal, the folder gone, and the proof says which bytes went."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, FileError
from addenda.removing import whole
from knowing import fresh, known
from pico import random_ids

IDS = random_ids(2, 12)


def logits(base: addenda.Base) -> torch.Tensor:
    with torch.no_grad():
        return base.model(input_ids=IDS).logits


def test_the_base_is_what_it_was_and_the_proof_says_so(tmp_path: Path) -> None:
    base = known()
    base.new("other", addenda.LoRA(rank=2))
    with base.off():
        bare = logits(base)
    base.use("m")
    assert not torch.equal(logits(base), bare)
    folder = base.modules["m"].save(tmp_path / "m")
    (tmp_path / "m.run").mkdir()
    (tmp_path / "m.run" / "log.jsonl").write_text("{}\n")
    sizes = {p.name: (p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()) for p in folder.iterdir()}
    parameters = base.modules["m"].size()
    report = addenda.forget(base, "m", folder=folder)
    assert report.holds
    assert report.parameters == parameters
    assert list(base.modules) == ["other"]
    assert torch.equal(logits(base), bare)
    assert report.deleted is not None
    assert report.deleted.files == sizes
    assert report.deleted.run_bytes == 3
    assert not list(tmp_path.iterdir())
    proof = report.proof
    assert proof["fingerprint"] == proof["fingerprint when attached"] == addenda.fingerprint(base.model)
    assert proof["how"] == "unplug m; then unplug other, and plug these again"
    digests = {value for key, value in proof.items() if key.startswith(("the same", "sha256"))}
    assert len(digests) == 1
    told = str(report)
    assert "m is gone: " in told
    assert sizes["module.safetensors"][1] in told
    assert report.as_dict()["deleted"]["bytes"] == report.deleted.bytes


def test_without_a_folder_what_is_on_disk_stays(tmp_path: Path) -> None:
    base = known()
    folder = base.modules["m"].save(tmp_path / "m")
    report = addenda.forget(base, "m")
    assert report.holds
    assert report.deleted is None
    assert (folder / "module.safetensors").exists()
    assert "no folder was given: what is on disk is still there" in str(report)


def test_where_the_proof_fails_nothing_is_deleted(tmp_path: Path) -> None:
    base = known()
    folder = base.modules["m"].save(tmp_path / "m")
    with torch.no_grad():
        next(base.model.parameters()).mul_(1.5)
    report = addenda.forget(base, "m", folder=folder)
    assert not report.holds
    assert report.deleted is None
    assert (folder / "module.safetensors").exists()
    assert "nothing was deleted" in str(report)


def test_logits_that_a_module_leaves_changed_break_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(["another", *["one"] * 5])
    monkeypatch.setattr(whole, "logits_hash", lambda _: next(told))
    assert not addenda.forget(known(), "m").holds


def test_a_module_that_was_renamed_is_known_by_its_folder(tmp_path: Path) -> None:
    base = known()
    folder = base.modules["m"].save(tmp_path / "m")
    base.unplug("m")
    base.plug(folder, name="n")
    assert addenda.forget(base, "n", folder=folder).holds
    assert not folder.exists()


def test_no_other_folder_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = known()
    other = fresh(addenda.ParallelAdapter(width=4)).modules["m"].save(tmp_path / "other")
    (tmp_path / "texts").mkdir()
    cases: dict[str, Any] = {
        "other": "is not the folder of the module that is plugged as 'm', but of 'm' .ParallelAdapter.",
        "texts": "is no module's folder",
        "gone": "is not there",
    }
    for name, says in cases.items():
        with pytest.raises(FileError, match=says):
            addenda.forget(base, "m", folder=tmp_path / name)
    assert list(base.modules) == ["m"]
    assert (other / "card.json").exists()


@pytest.mark.parametrize("more", [{"method": "gu"}, {"tokens": 100}, {"out": "x"}, {"lr": 0.1}, {"length": 8}])
def test_what_would_be_ignored_is_refused(more: dict[str, Any]) -> None:
    base = known()
    with pytest.raises(
        AddendaError, match=f"without texts 'm' is forgotten whole, and {next(iter(more))} would be ignored"
    ):
        addenda.forget(base, "m", **more)  # type: ignore[call-overload]
    assert list(base.modules) == ["m"]


def test_what_is_being_trained_is_not_taken_away() -> None:
    base = known()
    with base.trainable("m"), pytest.raises(AddendaError, match="are being trained"):
        addenda.forget(base, "m")
    assert list(base.modules) == ["m"]
