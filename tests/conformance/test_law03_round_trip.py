"""Law 3, round trip: saved and plugged in another process, a module gives bit-equal logits; a broken folder, one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from addenda.core.errors import FileError
from addenda.modulefile import storage
from conformance.client import OtherProcess
from conformance.kinds import CASES, MAIN, REFUSED
from conformance.world import Subject, assert_alive, batch, logits, subject_of
from pico import ARCHS


def check_round_trip(subject: Subject, cases: list[str], other: OtherProcess, folder: Path) -> None:
    """Every case saved from here and loaded elsewhere gives the same bits; saving twice gives the same file."""
    expected: dict[str, Tensor] = {}
    for number, case in enumerate(cases):
        name = f"m{number}"
        subject.case = case
        module = subject.plug(name)
        assert_alive(subject, name)
        module.save(folder / "modules" / name)
        for padded in (False, True):
            with subject.base.using(name):
                expected[f"{name}.{padded}"] = logits(subject.model, *batch(padded))
        subject.base.unplug(name)
    said = other.ask(task="load", arch=subject.arch, folder=str(folder / "modules"), out=str(folder / "logits"))
    assert said == "ok", said
    found = load_file(folder / "logits")
    assert found.keys() == expected.keys()
    far = {
        cases[int(key[1:].split(".")[0])]: float((found[key] - expected[key]).abs().max())
        for key in expected
        if not torch.equal(found[key], expected[key])
    }
    assert not far, f"loaded in another process these differ: {far}"


@pytest.mark.parametrize("arch", ARCHS)
def test_round_trip(arch: str, other: OtherProcess, tmp_path: Path) -> None:
    with subject_of(arch, "lora") as subject:
        check_round_trip(subject, [case for case in MAIN if (arch, case) not in REFUSED], other, tmp_path)


@pytest.mark.parametrize("arch", ["qwen3", *(pytest.param(a, marks=pytest.mark.slow) for a in ARCHS if a != "qwen3")])
def test_round_trip_of_every_configuration(arch: str, other: OtherProcess, tmp_path: Path) -> None:
    with subject_of(arch, "lora") as subject:
        cases = [case for case in CASES if case not in MAIN and (arch, case) not in REFUSED]
        check_round_trip(subject, cases, other, tmp_path)


@pytest.mark.parametrize("case", MAIN)
def test_saving_again_replaces_the_folder_and_keeps_card_and_probe(case: str, tmp_path: Path) -> None:
    with subject_of("llama", case) as subject:
        module = subject.plug("m")
        module.probe = [5, 6, 7]
        module.card.description = "what it is"
        module.save(tmp_path / "m")
        first = (tmp_path / "m" / storage.TENSORS).read_bytes()
        module.save(tmp_path / "m")
        assert (tmp_path / "m" / storage.TENSORS).read_bytes() == first
        other = subject.base.plug(tmp_path / "m", name="other")
        assert (other.probe, other.card.description, other.kind) == (module.probe, "what it is", module.kind)
        assert other.awaits_text == module.awaits_text
        with subject.base.using("m"):
            here = logits(subject.model, *batch())
        with subject.base.using("other"):
            assert torch.equal(logits(subject.model, *batch()), here)


@pytest.mark.parametrize("case", MAIN)
def test_one_error_lists_everything_wrong(case: str, tmp_path: Path) -> None:
    with subject_of("llama", case) as subject:
        folder = subject.plug("m").save(tmp_path / "m")
        tensors = load_file(folder / storage.TENSORS)
        missing, shaped, *_ = sorted(tensors)
        del tensors[missing]
        tensors[shaped] = torch.zeros(*tensors[shaped].shape, 2)
        tensors["layers.99.ffn.surprise"] = torch.zeros(3)
        save_file(tensors, folder / storage.TENSORS, metadata={"format": "addenda", "schema": "1"})
        card = json.loads((folder / storage.CARD).read_text())
        card["base"]["fingerprint"] = "0" * 64
        card["config"]["surprise"] = 1
        (folder / storage.CARD).write_text(json.dumps(card))
        with pytest.raises(FileError) as caught:
            subject.base.plug(folder, name="broken")
        said = str(caught.value)
        assert "fingerprint" in said or "wrong base" in said
        assert "surprise" in said
        for part in (missing, shaped, "layers.99.ffn.surprise", "wrong base"):
            assert part in said, f"the error does not mention {part}: {said}"
        assert "broken" not in subject.base.modules
        for field, value in (("kind", "Nonsense"), ("schema_version", 99)):
            wrong = card | {field: value}
            (folder / storage.CARD).write_text(json.dumps(wrong))
            with pytest.raises(FileError, match=str(value)):
                subject.base.plug(folder, name="broken")


# -- mutants --------------------------------------------------------------------------------------------------------


def _written(patch: pytest.MonkeyPatch, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    original = storage.write_tensors
    patch.setattr(storage, "write_tensors", lambda path, tensors, meta: original(path, change(dict(tensors)), meta))


def thresholds_are_not_saved(patch: pytest.MonkeyPatch) -> None:
    """Calibrated thresholds are written as zero."""
    _written(patch, lambda tensors: {n: t * (not n.endswith("threshold")) for n, t in tensors.items()})


def saved_in_bfloat16(patch: pytest.MonkeyPatch) -> None:
    """Tensors lose precision on their way to the file."""
    _written(patch, lambda tensors: {n: t.bfloat16() for n, t in tensors.items()})


def options_are_not_saved(patch: pytest.MonkeyPatch) -> None:
    """A card forgets the scale of a LoRA, so that another one is taken."""
    original = storage.options_of

    def options(kind: object) -> dict:
        found = original(kind)  # type: ignore[arg-type]
        return found | {"alpha": 1.0} if "alpha" in found else found

    patch.setattr(storage, "options_of", options)


def layers_are_swapped(patch: pytest.MonkeyPatch) -> None:
    """Tensors are written under another layer's name."""
    swap = {"layers.0": "layers.1", "layers.1": "layers.0"}
    _written(patch, lambda tensors: {swap.get(n[:8], n[:8]) + n[8:]: t for n, t in tensors.items()})


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (thresholds_are_not_saved, "neutral"),
        (thresholds_are_not_saved, "neutral-context"),
        (saved_in_bfloat16, "registers"),
        (options_are_not_saved, "lora"),
        (layers_are_swapped, "parallel"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    case: str,
    other: OtherProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subject_of("llama", case) as subject:
        mutant(monkeypatch)
        with pytest.raises(AssertionError):
            check_round_trip(subject, [case], other, tmp_path)
