"""Law 8: a merged checkpoint computes what the plugged modules do, in a process that knows nothing of addenda."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.bases import folding
from addenda.combining.manifest import read_manifest
from addenda.core.errors import AddendaError, FileError, UnsupportedError
from conformance.kinds import REFUSED
from conformance.world import IDS, Subject, generate, logits, subject_of, throwaway
from pico import ARCHS

FOLDS = ("lora", "locas-glu", "locas-mlp")
ALSO = ("lora-targets", "rslora", "locas-glu-random", "locas-glu-activation")
TOKENS = 12
HERE = Path(__file__).parent


def hosts(cases: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(arch, case) for case in cases for arch in ARCHS if (arch, case) not in REFUSED]


Answers = dict[tuple[str, str], tuple[Any, Any, Any]]
PAIRS = hosts(FOLDS)
CASES_OF = {arch: [case for other, case in PAIRS if other == arch] for arch in ARCHS}
#: every architecture once, every kind several times; the other pairs are slow
FEW = [(arch, cases[number % len(cases)]) for number, (arch, cases) in enumerate(CASES_OF.items())]


def _merged(place: Path, pairs: list[tuple[str, str]]) -> Answers:
    """By architecture and case: plugged logits and tokens, the report, and what plain transformers says."""
    found, asked = {}, []
    for arch, case in pairs:
        with subject_of(arch, case) as subject:
            subject.plug("m")
            out = place / f"{arch}-{case}"
            report = addenda.merge(subject.base, "m", out=out)
            with subject.base.using("m"):
                plugged = logits(subject.model, IDS), generate(subject.model, IDS[:1], max_new_tokens=TOKENS).sequences
        found[arch, case] = (plugged, report)
        asked.append((str(out), IDS, TOKENS))
    torch.save(asked, place / "request.pt")
    here = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(HERE / "plain.py"),
        str(place / "request.pt"),
        str(place / "answer.pt"),
    ]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = torch.load(place / "answer.pt", weights_only=True)
    return {pair: (*found[pair], answer) for pair, answer in zip(pairs, answers, strict=True)}


_KEPT: dict[bool, Answers] = {}


@pytest.fixture(scope="module")
def merged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What was merged of `FEW`, or of the other pairs."""
    few = request.param
    if few not in _KEPT:  # pytest makes a fixture anew for every test that gives it a parameter
        pairs = FEW if few else [pair for pair in PAIRS if pair not in FEW]
        _KEPT[few] = _merged(tmp_path_factory.mktemp("merged"), pairs)
    return _KEPT[few]


@pytest.mark.parametrize(
    ("merged", "arch", "case"),
    [
        pytest.param(pair in FEW, *pair, id="-".join(pair), marks=() if pair in FEW else (pytest.mark.slow,))
        for pair in sorted(PAIRS, key=lambda pair: pair not in FEW)
    ],
    indirect=["merged"],
)
def test_plain_transformers_computes_what_was_plugged(merged: Any, arch: str, case: str) -> None:
    (plugged, tokens), report, (theirs, their_tokens, dtype, parameters) = merged[arch, case]
    apart = float((theirs - plugged).abs().max() / plugged.abs().max())
    assert apart <= 1e-4
    assert torch.equal(tokens, their_tokens)
    assert dtype == "torch.float32"
    assert report.proof.holds
    assert report.proof.changed > 100 * report.proof.allowed  # what would be lost without the module
    assert read_manifest(report.out).proof == report.proof.as_dict()
    if report.width[0] != report.width[1]:
        assert report.width[1] % 64 == 0
        config = json.loads((report.out / "config.json").read_text())
        assert report.width[1] in config.values()
        assert parameters > sum(p.numel() for p in _bare(arch).parameters())


def _bare(arch: str) -> Any:
    from conformance.world import twin_of

    return twin_of(arch)


@pytest.mark.parametrize(
    ("arch", "case"),
    [pytest.param(*pair, id="-".join(pair), marks=pytest.mark.slow) for pair in hosts(ALSO) if pair[0] != "llama"]
    + [pytest.param("llama", case, id=f"llama-{case}") for case in ALSO],
)
def test_every_case_that_folds_is_proven(arch: str, case: str, tmp_path: Path) -> None:
    with subject_of(arch, case) as subject:
        subject.plug("m")
        assert addenda.merge(subject.base, "m", out=tmp_path / "out").proof.holds


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", FOLDS)
def test_half_precision_is_held_to_the_bases_own(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    with subject_of("gpt2" if case == "locas-mlp" else "qwen3", case, dtype) as subject:
        subject.plug("m", seed=2)  # so far from its text rounding may pass the bound; of this draw it stays well within
        report = addenda.merge(subject.base, "m", out=tmp_path / "out")
    assert report.proof.dtype == str(dtype).removeprefix("torch.")
    assert 1e-4 < report.proof.allowed < 0.2
    assert report.proof.difference <= report.proof.allowed
    assert report.proof.difference < report.proof.changed / 2


def test_another_dtype_can_be_asked_for(tmp_path: Path) -> None:
    with subject_of("llama", "locas-glu") as subject:
        subject.plug("m")
        report = addenda.merge(subject.base, "m", out=tmp_path / "out", dtype="bfloat16")
        whole = addenda.merge(subject.base, "m", out=tmp_path / "whole")
    assert report.proof.dtype == "bfloat16"
    assert 2 * report.bytes == whole.bytes
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_several_modules_and_weights_fold_in_one_go(tmp_path: Path) -> None:
    with subject_of("llama", "locas-glu") as subject:
        subject.plug("a")
        subject.plug("b", case="lora", seed=1)
        subject.plug("c", case="locas-glu-random", seed=2)
        subject.plug("d", case="parallel", seed=3)
        weights = {"a": 0.5, "b": 1.0, "c": 2.0, "d": -0.25}
        report = addenda.merge(subject.base, weights, out=tmp_path / "out")
        with subject.base.using(weights):
            plugged = logits(subject.model, IDS)
    from transformers import AutoModelForCausalLM

    theirs = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval(), IDS)
    assert float((theirs - plugged).abs().max() / plugged.abs().max()) <= 1e-4
    assert report.width == (96, 128)
    assert read_manifest(tmp_path / "out").units == {
        0: [("a", 96, 104), ("c", 104, 108), ("d", 108, 116)],
        1: [("a", 96, 104), ("c", 104, 108), ("d", 108, 116)],
        2: [("a", 96, 104), ("d", 104, 112)],
    }


@pytest.mark.parametrize("multiple", [1, 8, 256])
def test_every_layer_gets_one_width(multiple: int, tmp_path: Path) -> None:
    with subject_of("phi3", "locas-glu-random") as subject:
        subject.plug("m")  # layers 0 and 2
        report = addenda.merge(subject.base, "m", out=tmp_path / "out", multiple=multiple)
    assert report.width[1] == -(-100 // multiple) * multiple
    assert report.proof.holds


def test_shards_are_as_one_file(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        one = addenda.merge(subject.base, "m", out=tmp_path / "one")
        many = addenda.merge(subject.base, "m", out=tmp_path / "many", shard_bytes=100_000)
    assert len([name for name in many.files if name.endswith(".safetensors")]) > 3
    assert one.bytes == many.bytes
    first = AutoModelForCausalLM.from_pretrained(tmp_path / "one").state_dict()
    second = AutoModelForCausalLM.from_pretrained(tmp_path / "many").state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("neutral", "gate that opens and shuts by token"),
        ("neutral-context", "gate that reads the document so far"),
        ("neutral-sigmoid", "gate that opens and shuts by token"),
        ("registers", "no place"),
        ("registers-neutral", "no place"),
        ("cartridge", "no place"),
    ],
)
def test_what_cannot_be_folded_is_refused_with_the_reason(case: str, reason: str, tmp_path: Path) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        with pytest.raises(UnsupportedError, match=reason):
            addenda.merge(subject.base, "m", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_units_with_another_activation_are_refused(tmp_path: Path) -> None:
    with subject_of("gemma2", "parallel") as subject:
        subject.plug("m")
        with pytest.raises(UnsupportedError, match="activated by 'silu'"):
            addenda.merge(subject.base, "m", out=tmp_path / "out")
    with subject_of("gpt2", "parallel") as subject:
        subject.plug("m")
        with pytest.raises(UnsupportedError, match="gated, and those of this base are not"):
            addenda.merge(subject.base, "m", out=tmp_path / "out")


def test_the_base_stays_as_it_was(tmp_path: Path) -> None:
    with subject_of("llama", "locas-glu") as subject:
        subject.plug("m")
        before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
        addenda.merge(subject.base, "m", out=tmp_path / "out")
        after = subject.model.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert subject.model.config.intermediate_size == 96


def test_a_merge_replaces_a_merge_and_nothing_else(tmp_path: Path) -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        addenda.merge(subject.base, "m", out=tmp_path / "out", shard_bytes=100_000)
        report = addenda.merge(subject.base, "m", out=tmp_path / "out")
        assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == sorted(report.files)
        (tmp_path / "out" / "mine.txt").write_text("precious")
        with pytest.raises(FileError, match=r"mine\.txt"):
            addenda.merge(subject.base, "m", out=tmp_path / "out")
        assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": "nobody"}, "no module 'nobody' is plugged"),
        ({"names": []}, "at least one plugged module"),
        ({"dtype": "int8"}, "dtype is one of float32"),
        ({"multiple": 0}, "are positive"),
    ],
)
def test_mistakes_are_told(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        with pytest.raises(AddendaError, match=said):
            addenda.merge(subject.base, **{"names": "m", "out": tmp_path / "out"} | given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_that_half_precision_drowns_is_not_called_proven(dtype: torch.dtype, tmp_path: Path) -> None:
    with subject_of("llama", "lora", dtype) as subject:
        module = subject.plug("m")
        with torch.no_grad():
            for key in module.sites():
                module.adapter(key).b.mul_(1e-3)  # type: ignore[operator, union-attr]
        with pytest.raises(AddendaError, match=r"too coarse for them|is allowed"):
            addenda.merge(subject.base, "m", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_none_are_no_proof() -> None:
    from addenda.combining.proof import apart

    good, bad = torch.ones(2, 3), torch.tensor([[1.0, float("nan"), 1.0]] * 2)
    assert apart([good, bad], [good, good]) == float("inf")
    assert apart([good, good], [good, bad]) == float("inf")


def test_an_empty_probe_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        with pytest.raises(AddendaError, match="no text to compare"):
            addenda.merge(subject.base, "m", out=tmp_path / "out", probe=[])
    assert not (tmp_path / "out").exists()


# -- mutants --------------------------------------------------------------------------------------------------------


def _lost(original: Any) -> Any:
    """A merge that forgets the modules."""

    def changes(self: Any) -> dict[str, Any]:
        return {name: [lambda tensor: tensor] for name in original(self)}

    return changes


def _swapped(original: Any) -> Any:
    """A merge that takes keys for gates."""

    def add_units(self: Any, name: str, layer: int, units: Any) -> None:
        from addenda.core.units import Units

        original(self, name, layer, Units(units.gate, units.values, units.up, units.activation))

    return add_units


@pytest.mark.parametrize(
    ("arch", "mutant", "method"),
    [("opt", _lost, "changes"), ("llama", _swapped, "add_units")],
    ids=["lost", "swapped"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mutants_are_caught_and_nothing_is_written(
    arch: str, mutant: Any, method: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Subject = throwaway(arch, "lora" if arch == "opt" else "locas-glu", dtype)
    monkeypatch.setattr(folding.Folding, method, mutant(getattr(folding.Folding, method)))
    with pytest.raises(AddendaError, match="nothing was written: the merged model differs"):
        addenda.merge(made.base, "m", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
