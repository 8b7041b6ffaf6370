"""A module's folder: what goes in comes out, the same bytes every time, and an old folder is lost never."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from addenda.core import files
from addenda.core.card import SCHEMA, Measure, TrainingRecord
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, FileError, UnsupportedError
from addenda.core.module import KnowledgeModule
from addenda.core.registry import kinds
from addenda.kinds.cartridge import Cartridge
from addenda.kinds.delta_product import DeltaProduct
from addenda.kinds.ffa_lora import FFALoRA
from addenda.kinds.ffn_skip import FFNSkip
from addenda.kinds.locas_glu import LocasGLU
from addenda.kinds.locas_mlp import LocasMLP
from addenda.kinds.lora import LoRA
from addenda.kinds.low_rank_units import LowRankUnits
from addenda.kinds.mlp_memory import MLPMemory
from addenda.kinds.neutral_residues import NeutralResidues
from addenda.kinds.open_book import OpenBook
from addenda.kinds.parallel_adapter import ParallelAdapter
from addenda.kinds.registers import Registers
from addenda.kinds.soft_tokens import SoftTokens
from addenda.kinds.ternary_units import TernaryUnits
from addenda.modulefile import storage
from addenda.modulefile.remembered import MEMORY
from addenda.modulefile.side import SIDE
from addenda.modulefile.storage import MEMBERS, check_base, described, load_folder, load_module, save_module
from addenda.modulefile.tensorfile import write_tensors
from hostile.forge import FINGERPRINT, anatomy, module_of, paper_base, sound

KINDS: list[Kind] = [
    *(Registers(count=4, mode=mode) for mode in ("drop", "sum", "avg", "stack")),
    Registers(count=4, gate="neutral", init="text"),
    Registers(count=4, gate="context", normalise=False),
    Cartridge(count=4),
    Cartridge(count=4, init="text"),
    OpenBook(count=4, rank=2),
    NeutralResidues(width=4),
    NeutralResidues(extra=0.3, gate="context", read_at=1),
    NeutralResidues(width=4, gate="sigmoid", init="he"),
    ParallelAdapter(extra=0.25),
    LocasGLU(rank=2),
    LocasMLP(rank=2, activation="relu", layers=(1,)),
    TernaryUnits(width=7, gated=False, layers=(1,)),
    TernaryUnits(width=4, token_gate=True),
    LowRankUnits(width=6, rank=2),
    DeltaProduct(width=4, heads=2, steps=1),
    FFNSkip(first=1, last=0, span=2),
    MLPMemory(width=4, blocks=1, share=0.5),
    SoftTokens(count=3),
    LoRA(rank=2),
    LoRA(rank=3, alpha=1.5, targets=("q_proj",), rslora=True),
    FFALoRA(rank=2, seed=3),
]


def kind_id(kind: Kind) -> str:
    given = {f.name: getattr(kind, f.name) for f in dataclasses.fields(kind) if getattr(kind, f.name) != f.default}  # type: ignore[arg-type]
    return f"{type(kind).__name__}-{given}"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# --- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_every_kind_comes_back_bit_for_bit(kind: Kind, dtype: torch.dtype, tmp_path: Path) -> None:
    gated = not isinstance(kind, LocasMLP)
    module = module_of(kind, anatomy(layers=3, gated=gated)).to(dtype)
    module.probe, module.awaits_text = [1, 2, 3], kind.starts_from_text
    save_module(module, tmp_path / "m")
    back = load_module(tmp_path / "m", paper_base(layers=3, gated=gated))
    before, after = module.tensors(), back.tensors()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name
    assert back.kind == kind
    assert (back.name, back.probe, back.awaits_text) == ("note", [1, 2, 3], kind.starts_from_text)
    assert [n for n, _ in back.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert all(p.requires_grad for p in back.parameters())
    assert back.adapters.keys() == module.adapters.keys()


def test_every_kind_there_is_stands_in_this_test() -> None:
    assert {type(kind).__name__ for kind in KINDS} == set(kinds())


def test_tensors_of_one_storage_and_out_of_order_are_written_as_they_look(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    tensors = {"turned": whole.t(), "part": whole[1:3, ::2], "same": whole, "none": whole[:0], "one": whole[2, 2]}
    tensors |= {"flag": whole > 3, "code": whole.to(torch.uint8), "half": whole.to(torch.bfloat16)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"format": "addenda"})
    back = load_file(tmp_path / "t.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    with pytest.raises(FileError, match=r"tensor x is torch\.complex64"):
        write_tensors(tmp_path / "u.safetensors", {"x": torch.zeros(1, dtype=torch.complex64)}, {})


def test_loading_draws_no_random_number_and_keeps_no_hold_on_the_file(tmp_path: Path) -> None:
    folder = sound(tmp_path / "m")
    state = torch.random.get_rng_state()
    module = load_module(folder, paper_base())
    assert torch.equal(torch.random.get_rng_state(), state)
    before = {name: tensor.clone() for name, tensor in module.tensors().items()}
    with (folder / storage.TENSORS).open("r+b") as file:
        file.write(b"\xff" * (folder / storage.TENSORS).stat().st_size)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.tensors().items())


def test_a_loaded_module_can_be_renamed_and_saved_again(tmp_path: Path) -> None:
    module = load_module(sound(tmp_path / "m"), paper_base(), name="other")
    module.save(tmp_path / "n")
    assert load_folder(tmp_path / "n").card.name == "other"
    with pytest.raises(AddendaError, match="'base' is reserved"):
        load_module(tmp_path / "n", paper_base(), name="base")


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_beside(tmp_path: Path) -> None:
    module = module_of(LoRA(rank=2), anatomy())
    module.writer = save_module
    assert module.save(tmp_path / "deep" / "er" / "m") == tmp_path / "deep" / "er" / "m"
    first = bytes_of(tmp_path / "deep" / "er" / "m")
    module.save(tmp_path / "deep" / "er" / "m")
    assert bytes_of(tmp_path / "deep" / "er" / "m") == first
    assert set(first) == set(MEMBERS) - {SIDE, MEMORY}  # what it does not have leaves no file
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["m"]
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "deep" / "er" / "m").iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


# --- the card --------------------------------------------------------------------------------------------------------


def test_a_modules_digest_is_that_of_its_file_and_follows_it(tmp_path: Path) -> None:
    module = module_of(LoRA(rank=2), anatomy())
    first = storage.digest_of(module)
    save_module(module, tmp_path / "m")
    assert first == files.sha256_of(tmp_path / "m" / storage.TENSORS) == storage.digest_of(module)
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    assert storage.digest_of(module) != first
    save_module(module, tmp_path / "m")
    assert storage.digest_of(module) == files.sha256_of(tmp_path / "m" / storage.TENSORS)


def test_the_card_is_filled_with_what_the_module_knows(tmp_path: Path) -> None:
    module = module_of(NeutralResidues(width=4), anatomy())
    module.probe = [5, 6]
    module.card.name, module.card.kind = "stale", "Stale"
    saved = load_folder(save_module(module, tmp_path / "m"))
    card, tensors = saved.card, saved.tensors
    assert (card.name, card.kind, card.config["width"], card.probe) == ("note", "NeutralResidues", 4, [5, 6])
    assert card.parameters == module.size() == sum(t.numel() for n, t in tensors.items() if not n.startswith("gate."))
    assert card.versions.keys() == {"addenda", "torch", "transformers", "safetensors"}
    assert card.versions["torch"] == torch.__version__
    assert card.sha256 == files.sha256_of(tmp_path / "m" / storage.TENSORS)
    assert module.card.sha256 is None  # saving changes nothing about the module
    with safe_open(tmp_path / "m" / storage.TENSORS, "pt") as file:
        assert file.metadata() == {"format": "addenda", "schema": str(SCHEMA)}
    assert described(module).schema_version == SCHEMA


def test_what_is_not_finite_in_a_card_survives(tmp_path: Path) -> None:
    module = module_of(LoRA(rank=2), anatomy())
    module.card.measures.append(Measure(name="learning", value=float("nan"), high=float("inf")))
    module.card.training.append(TrainingRecord(settings={"clip": float("inf"), "note": "ü€"}))
    card = load_folder(save_module(module, tmp_path / "m")).card
    assert card.measures[0].value != card.measures[0].value
    assert card.measures[0].high == float("inf")
    assert card.training[0].settings == {"clip": "Infinity", "note": "ü€"}


def test_fields_of_a_newer_minor_version_are_kept(tmp_path: Path) -> None:
    folder = sound(tmp_path / "m")
    raw = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(raw | {"mood": "calm", "base": raw["base"] | {"age": 3}}))
    again = save_module(load_module(folder, paper_base()), tmp_path / "n")
    kept = json.loads((again / "card.json").read_text())
    assert (kept["mood"], kept["base"]["age"]) == ("calm", 3)


@pytest.mark.parametrize("setting", [object(), "\ud800", "a" * (1 << 20)], ids=["object", "half a character", "long"])
def test_a_card_that_cannot_be_written_is_an_error_and_writes_nothing(setting: Any, tmp_path: Path) -> None:
    module = module_of(LoRA(rank=2), anatomy())
    module.card.training.append(TrainingRecord(settings={"x": setting}))
    with pytest.raises(FileError, match="the card of 'note'"):
        save_module(module, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_not_written(tmp_path: Path) -> None:
    old = bytes_of(sound(tmp_path / "m"))
    module = module_of(LoRA(rank=2), anatomy())
    with torch.no_grad():
        next(module.parameters())[0, 0] = float("nan")
    with pytest.raises(FileError, match=r"is not written: NaN or infinite values in 1 tensor: layers\.0\."):
        save_module(module, tmp_path / "m")
    assert bytes_of(tmp_path / "m") == old


def test_another_base_is_an_error_a_warning_or_nothing(tmp_path: Path) -> None:
    folder = sound(tmp_path / "m")
    card = load_folder(folder).card
    check_base(card, FINGERPRINT)
    with pytest.raises(FileError, match=r"wrong base: .*abababababababab\.\.\..*cdcdcdcdcdcdcdcd\.\.\..*check='warn'"):
        check_base(card, "cd" * 32)
    with pytest.warns(UserWarning, match="wrong base"):
        check_base(card, "cd" * 32, how="warn")
    check_base(card, "cd" * 32, how="off")
    with pytest.raises(AddendaError, match="check is 'error', 'warn' or 'off'; got 'maybe'"):
        check_base(card, "cd" * 32, how="maybe")
    with pytest.warns(UserWarning, match="wrong base"):
        load_module(folder, paper_base(fingerprint="cd" * 32), check="warn")
    load_module(folder, paper_base(fingerprint="cd" * 32), check="off")


def test_a_base_that_cannot_host_the_kind_says_why(tmp_path: Path) -> None:
    base = paper_base()
    base.refusal = lambda seam: f"no {seam} here"
    with pytest.raises(UnsupportedError, match="LoRA on paper: no linear here"):
        load_module(sound(tmp_path / "m"), base)
    base.fingerprint = "cd" * 32
    with pytest.raises(FileError, match=r"(?s)2 things.*wrong base.*LoRA on paper: no linear here"):
        load_module(tmp_path / "m", base)


# --- whole or not at all ---------------------------------------------------------------------------------------------


def test_an_empty_folder_and_a_link_to_a_folder_are_taken(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    sound(tmp_path / "m")
    (tmp_path / "link").symlink_to("m", target_is_directory=True)
    before = (tmp_path / "m" / "card.json").stat().st_ino
    sound(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "m" / "card.json").stat().st_ino != before


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("notes.txt", "holds what is not a module's (notes.txt)"),
        ("sub/x", "holds what is not a module's (sub/)"),
        (".git/x", "holds what is not a module's (.git/)"),
        ("card.json/x", "holds what is not a module's (card.json/)"),
        ("README.md", "holds README.md but no whole module (card.json, module.safetensors)"),
        ("card.json", "holds card.json but no whole module"),
    ],
)
def test_anything_else_is_refused_by_name_and_left_alone(what: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m" / what).parent.mkdir(parents=True)
    (tmp_path / "m" / what).write_text("mine")
    with pytest.raises(FileError) as caught:
        sound(tmp_path / "m")
    assert said in str(caught.value)
    assert (tmp_path / "m" / what).read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_module_with_a_note_beside_it_is_refused(tmp_path: Path) -> None:
    folder = sound(tmp_path / "m")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"notes\.txt"):
        sound(folder)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(FileError, match="is a file; give a new or empty folder"):
        sound(tmp_path / "m")
    with pytest.raises(FileError, match=r"cannot write .*; what stood there is untouched"):
        sound(tmp_path / "m" / "below")


def test_no_space_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bytes_of(sound(tmp_path / "m"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(FileError, match=r"no space left on device: 1,0\d\d,\d+ bytes are needed, 10 are free"):
        sound(tmp_path / "m")
    assert bytes_of(tmp_path / "m") == old


@pytest.mark.parametrize("step", range(1, 6))
def test_no_space_at_any_step_leaves_the_old_folder(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bytes_of(sound(tmp_path / "m"))
    calls, real = [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"cannot write .*: No space left on device"):
        sound(tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    new = bytes_of(tmp_path / "m")
    assert new == old if step < 5 else set(new) == set(old)  # the fifth comes after the new folder took its place


def test_a_disk_that_fills_while_writing_leaves_the_old_folder(tmp_path: Path) -> None:
    """The kernel itself refuses the write, by a limit on the size of files."""
    old = bytes_of(sound(tmp_path / "m"))
    module = module_of(LoRA(rank=64), anatomy(layers=8, width=64))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(FileError, match=r"cannot write .*: File too large; what stood there is untouched"):
            save_module(module, tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert bytes_of(tmp_path / "m") == old
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from addenda.core import files
    from addenda.kinds.lora import LoRA
    from addenda.modulefile.storage import save_module
    from hostile.forge import anatomy, module_of

    def save_and_die(moment):
        real = files._swap
        def swap(*places):
            if moment == "after":
                real(*places)
            os.kill(os.getpid(), signal.SIGKILL)
        files._swap = swap
        save_module(module_of(LoRA(rank=3), anatomy()), Path(sys.argv[2]) / moment)

    for moment in ("before", "after"):
        pid = os.fork()
        if pid == 0:
            save_and_die(moment)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
"""


def test_a_kill_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    for moment in ("before", "after"):
        sound(tmp_path / moment)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert load_folder(tmp_path / "before").card.config["rank"] == 2
    assert load_folder(tmp_path / "after").card.config["rank"] == 3


def test_where_folders_cannot_change_places_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bytes_of(sound(tmp_path / "m"))
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    real = Path.rename
    moved: list[str] = []

    def rename(self: Path, target: Path) -> Path:
        moved.append(self.suffix)
        if len(moved) == 2:
            raise OSError(errno.EIO, "broken disk")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(FileError, match="broken disk"):
        sound(tmp_path / "m")
    assert bytes_of(tmp_path / "m") == old
    sound(tmp_path / "m")  # and then it works
    assert bytes_of(tmp_path / "m") != old
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_interrupt_while_writing_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bytes_of(sound(tmp_path / "m"))

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sound(tmp_path / "m")
    assert bytes_of(tmp_path / "m") == old
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_module_of_no_base_cannot_be_saved_by_itself() -> None:
    module: KnowledgeModule = module_of(LoRA(rank=2), anatomy())
    with pytest.raises(AddendaError, match="belongs to no base"):
        module.save("anywhere")
