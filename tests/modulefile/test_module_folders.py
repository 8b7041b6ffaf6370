"""Modules on this machine: listed by their cards, deleted for good, and nothing else ever touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import addenda
from addenda.core.card import Measure, TrainingRecord
from addenda.core.errors import FileError, meant, near
from addenda.measuring.looking.inspection import inspect
from addenda.modulefile.folders import check_deletable, delete, list_modules
from pico import pico, pico_tokenizer


@pytest.fixture(scope="module")
def base() -> Any:
    return addenda.attach(pico("llama"), pico_tokenizer(), name="pico")


@pytest.fixture
def runs(base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with a gated module that was trained, a fresh LoRA, and a run beside the first."""
    monkeypatch.chdir(tmp_path)
    for name in list(base.modules):
        base.unplug(name)
    gated = base.new("gated", addenda.NeutralResidues(width=8))
    gated.card.training = [TrainingRecord(tokens=1000), TrainingRecord(tokens=500)]
    gated.card.measures = [
        Measure(name="learning", value=0.3, on="a"),
        Measure(name="learning", value=0.1, on="b"),
        Measure(name="forgetting", value=0.01, on="c"),
        Measure(name="forgetting", value=0.04, on="d"),
    ]
    gated.save(Path("runs/gated"))
    base.new("low", addenda.LoRA(rank=2)).save(Path("runs/deeper/low-2"))
    run = tmp_path / "runs" / "gated.run"
    (run / "step-00000003").mkdir(parents=True)
    (run / "step-00000003" / "state.json").write_text("{}")
    (run / "step-00000003" / "state.safetensors").write_text("{}")
    (run / "log.jsonl").write_text("x" * 100)
    return tmp_path / "runs"


def test_modules_are_listed_by_their_cards(runs: Path) -> None:
    low, gated = list_modules()
    assert (low.path, low.name, low.kind, low.gate) == (Path("runs/deeper/low-2"), "low", "LoRA", None)
    assert (low.tokens, low.gain, low.forgot) == (0, None, None)
    assert (gated.kind, gated.base, gated.gate, gated.tokens) == ("NeutralResidues", "pico", "document", 1500)
    assert (gated.gain, gated.forgot) == (pytest.approx(0.2), 0.04)
    assert gated.bytes == sum(file.stat().st_size for file in (runs / "gated").iterdir())
    assert list_modules("runs/deeper", "runs/gated", runs / "gated") == [low, gated]
    assert json.loads(json.dumps(gated.as_dict()))["path"] == "runs/gated"
    assert addenda.list_modules is list_modules


def test_a_card_that_cannot_be_read_is_listed_with_the_reason(runs: Path) -> None:
    (runs / "broken").mkdir()
    (runs / "broken" / "card.json").write_text("{")
    (broken,) = [module for module in list_modules() if module.wrong]
    assert broken.path == Path("runs/broken")
    assert "card.json is malformed" in str(broken.wrong)


def test_nothing_there_is_no_error_and_a_folder_that_is_not_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list_modules() == []
    (tmp_path / "runs").mkdir()
    with pytest.raises(FileError, match=r"'rnus' is not there; did you mean 'runs'\?"):
        list_modules("rnus")


def test_delete_takes_the_module_and_its_run_and_says_what(runs: Path) -> None:
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (runs / "gated").iterdir()}
    assert check_deletable("runs/gated").files.keys() == digests.keys()
    gone = delete("runs/gated")
    assert {name: digest for name, (_, digest) in gone.files.items()} == digests
    assert gone.run_bytes == 104
    assert gone.bytes == gone.run_bytes + sum(size for size, _ in gone.files.values())
    assert sorted(path.name for path in runs.iterdir()) == ["deeper"]
    assert addenda.delete is delete


def test_what_an_interrupted_delete_left_goes_with_the_next(runs: Path) -> None:
    for left in (".gated.deleted", ".gated.deletedxyz"):
        (runs / left / "gated.run").mkdir(parents=True)
        (runs / left / "card.json").write_text("half")
    (runs / ".gated2.deleted").mkdir()
    delete("runs/gated")
    assert sorted(path.name for path in runs.iterdir()) == [".gated2.deleted", "deeper"]


def refused(runs: Path, name: str) -> Path:
    """Something that is not to be deleted."""
    target = runs / "gated"
    if name == "a file in it":
        (target / "thesis.txt").write_text("mine")
    elif name == "a folder in it":
        (target / "more").mkdir()
    elif name == "a file in a checkpoint":
        (runs / "gated.run" / "step-00000001").mkdir(exist_ok=True)
        (runs / "gated.run" / "step-00000001" / "thesis.txt").write_text("mine")
    elif name == "a file in the run":
        (runs / "gated.run" / "thesis.txt").write_text("mine")
    elif name == "a link":
        (runs / "link").symlink_to(target)
        return runs / "link"
    elif name == "no tensors":
        (target / "module.safetensors").unlink()
    elif name == "the folder above":
        return runs
    elif name == "a file":
        return target / "card.json"
    elif name == "a run":
        return runs / "gated.run"
    elif name == "nothing":
        return runs / "gatd"
    return target


CASES = {
    "a file in it": "holds what is not a module's .thesis.txt. and is left as it is$",
    "a folder in it": "holds what is not a module's .more/.",
    "a file in the run": "no run of a module left there .'thesis.txt'.; move it away. Nothing is deleted",
    "a file in a checkpoint": "no run of a module left there .'step-00000001/thesis.txt'.; move it away",
    "a link": "is a link to",
    "no tensors": "is no module's folder",
    "the folder above": "is no module's folder",
    "a file": "is a file, and a module is a folder",
    "a run": "is no module's folder",
    "nothing": "is not there, and a module is a folder; did you mean '.*gated'",
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_is_deleted(name: str, runs: Path) -> None:
    target = refused(runs, name)
    before = sorted(path for path in runs.rglob("*"))
    with pytest.raises(FileError, match=CASES[name]):
        delete(target)
    assert sorted(path for path in runs.rglob("*")) == before


def test_a_link_in_a_module_is_not_followed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"mine")
    (runs / "gated" / "module.safetensors").unlink()
    (runs / "gated" / "module.safetensors").symlink_to(tmp_path / "weights")
    delete(runs / "gated")
    assert (tmp_path / "weights").read_bytes() == b"mine"


def test_a_modules_page_names_a_path_below_the_working_folder_and_no_other(
    runs: Path, base: Any, tmp_path: Path
) -> None:
    assert 'base.plug("runs/gated", name="gated")' in (runs / "gated" / "README.md").read_text()
    base.modules["gated"].save(tmp_path / "elsewhere")
    text = (tmp_path / "elsewhere" / "README.md").read_text()
    assert str(tmp_path) not in text
    assert 'base.plug("path/to/gated", name="gated")' in text


def test_what_is_near_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Corpus.jsonl.gz").touch()
    assert near("data/corpus.jsonl") == Path("data/Corpus.jsonl.gz")
    assert near("dat/corpus.jsonl") == Path("data/Corpus.jsonl.gz")
    assert near("data/other.txt") is None
    assert near("nothing/like/it") is None
    assert near("a\0b") is None
    assert meant("dta") == "; did you mean 'data'?"
    assert meant("x" * 5000) == ""


def test_modules_are_printed_one_a_line(base: Any) -> None:
    fresh = addenda.attach(pico("llama"), pico_tokenizer())
    fresh.new("gated", addenda.NeutralResidues(width=8, gate="token"))
    fresh.new("low", addenda.LoRA(rank=2)).card.training = [TrainingRecord(tokens=12_345)]
    first, second = str(fresh.modules).splitlines()
    assert "gated: NeutralResidues(width=8, gate='token'), 4," in first
    assert "at 3 sites, not trained)" in first
    assert "low: LoRA(rank=2" in second
    assert "trained on 12,345 tokens)" in second
    assert repr(fresh.modules["low"]) in second
    assert all(len(line) <= 120 for line in (first, second))


def interrupted(runs: Path, name: str = "stopped") -> Path:
    """What an interrupted run leaves."""
    run = runs / f"{name}.run"
    (run / "step-00000026").mkdir(parents=True)
    (run / "step-00000026" / "state.json").write_text("{}")
    (run / "log.jsonl").write_text("{}")
    return run


def test_an_interrupted_run_is_listed_and_says_how_to_go_on(runs: Path) -> None:
    run = interrupted(runs)
    interrupted(runs, "done")
    (runs / "done.run" / "finished.json").write_text("{}")
    (told,) = [module for module in list_modules() if module.name == "stopped"]
    assert (told.path, told.interrupted) == (Path("runs/stopped"), True)
    assert "interrupted after step 26: the same command with --resume goes on" in str(told.wrong)
    assert not any(module.name == "done" for module in list_modules())
    for name in ("runs/stopped", "runs/stopped.run"):
        with pytest.raises(FileError, match=r"interrupted after step 26.*--finish keeps the module"):
            inspect(name)
    gone = delete(run)
    assert (gone.files, gone.run_bytes > 0, run.exists()) == ({}, True, False)
    assert not any(module.interrupted for module in list_modules("runs/deeper"))


def test_a_run_that_goes_on_and_what_is_no_run_are_not_deleted(runs: Path) -> None:
    run = interrupted(runs)
    (run / "mine.txt").write_text("keep")
    with pytest.raises(FileError, match=r"holds what no run of a module left there \(.*mine\.txt"):
        delete(run)
    (run / "mine.txt").unlink()
    lock = FileLock(run / "lock")
    with lock, pytest.raises(FileError, match="a process is training into"):
        delete(run)
    (runs / "empty.run").mkdir()
    with pytest.raises(FileError, match="is empty: no run"):
        delete(runs / "empty.run")
    assert (run / "step-00000026").exists()


def test_how_many_documents_are_behind_a_number_is_told(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from addenda.cli.list import nats

    monkeypatch.chdir(tmp_path)
    for name in list(base.modules):
        base.unplug(name)
    module = base.new("few", addenda.LoRA(rank=2))
    module.card.measures = [
        Measure.over(2, "learning", 0.232, -1.892, 0.236, on="a"),
        Measure.over(40, "learning", 0.1, 0.05, 0.15, on="b"),
        Measure.over(1, "forgetting", -0.003, -0.003, -0.003, on="c"),
    ]
    assert [measure.low for measure in module.card.measures] == [None, 0.05, None]
    module.save(Path("runs/few"))
    (few,) = list_modules()
    assert (few.gain_n, few.forgot_n) == (2, 1)
    assert (nats(few.gain, few.gain_n), nats(0.1, 40), nats(None)) == ("+0.166 ?", "+0.100", "")
    page = Path("runs/few/README.md").read_text()
    front, body = page.split("---", 2)[1:]
    assert 'name: "b"' in front
    assert 'name: "a"' not in front
    assert body.count("too few for one") == 2
