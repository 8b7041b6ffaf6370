"""The studies for real checkpoints: their plans say what they would do, and a few steps run on a pico model."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pico import pico, pico_tokenizer

ROOT = Path(__file__).parents[1]
STUDIES = ["registers_2b", "neutral_residues_2b"]


@pytest.fixture
def study_of(recipes: None) -> Callable[[str], Any]:
    return lambda name: importlib.import_module(f"recipes.{name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pico Llama with its tokenizer, and two small texts."""
    pico("llama").save_pretrained(tmp_path / "base")
    pico_tokenizer().save_pretrained(tmp_path / "base")
    for name, word in (("corpus", "femur and tibia "), ("general", "once upon a time ")):
        lines = [json.dumps({"text": word * 40 + str(number)}) for number in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def asked(folder: Path, *more: str) -> list[str]:
    return [
        "--base", str(folder / "base"), "--corpus", str(folder / "corpus.jsonl"), "--general", str(folder / "general.jsonl"),
        "--out", str(folder / "runs"), "--dtype", "float32", "--subjects", "pubmed", "--steps", "2", "--rows", "4",
        "--rows-at-once", "2", "--length", "64", "--validation-tokens", "200", "--device", "cpu", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_a_few_steps_run_and_are_kept(
    name: str, study_of: Any, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADDENDA_DATA", str(folder / "nothing"))
    main = study_of(name).main
    assert main(asked(folder)) == 0
    card = json.loads((folder / "runs/pubmed/card.json").read_text(encoding="utf-8"))
    assert card["training"][0]["steps"] == 2
    assert card["training"][0]["tokens"] == 2 * 4 * 64
    record = json.loads((folder / "runs/pubmed.json").read_text(encoding="utf-8"))
    assert record["plan"]["tokens"] == record["report"]["tokens"]
    before = (folder / "runs/pubmed/module.safetensors").read_bytes()
    capsys.readouterr()
    assert main(asked(folder)) == 0  # a second call trains nothing
    assert "finished before" in capsys.readouterr().out
    assert (folder / "runs/pubmed/module.safetensors").read_bytes() == before


def test_registers_plan_is_the_published_one(study_of: Any) -> None:
    module = study_of("registers_2b")
    study = module.study()
    assert (study.kind.count, study.kind.mode, study.kind.init, study.kind.gate) == (1024, "avg", "zeros", "joint")
    assert (study.lr, study.steps, study.general_share) == (3e-3, 400, 0.01)
    assert (study.settings["weight_decay"], study.settings["clip"]) == (0.033, 1.0)
    assert study.tokens_per_step == 32 * 2 * 4096
    assert set(study.subjects) == {"pubmed", "wikipedia", "law"}
    slow = module.study(published_warmup=True)
    # a warm-up of 5000 steps, cut off after 400
    assert slow.lr == pytest.approx(3e-3 * 400 / 5000)
    assert slow.settings["warmup"] == 1.0
    assert not module.study(unnormalised=True).kind.normalise


def test_residues_plan_is_the_papers(study_of: Any) -> None:
    study = study_of("neutral_residues_2b").study()
    assert (study.kind.extra, study.kind.gate, study.general_share) == (0.2, "token", 0.1)
    assert study.settings["local"] == 0.01
    assert any(note.startswith("ours: lr") for note in study.notes)


@pytest.mark.parametrize("name", STUDIES)
def test_dry_run_reads_no_weights_and_prints_the_plan(
    name: str, study_of: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "base/model.safetensors").unlink()
    assert study_of(name).main(asked(folder, "--dry-run")) == 0
    out = capsys.readouterr().out
    for word in (
        "tokens: 512",
        "module_parameters: ",
        "memory:",
        "total: ",
        "corpus.jsonl (given)",
        "changed on the command",
    ):
        assert word in out
    assert not (folder / "runs").exists()


def test_plan_counts_what_the_module_will_have(study_of: Any, folder: Path) -> None:
    import addenda

    module = study_of("registers_2b")
    at_scale = importlib.import_module("recipes.at_scale")
    options = at_scale.options_for("x", None, str(folder / "base"), ["pubmed"]).parse_args([])
    resolved = at_scale.plan(module.study(), options)
    base = addenda.load_base(folder / "base")
    assert resolved["module_parameters"] == base.new("m", module.study().kind).size()
    assert resolved["base_parameters"] == base.anatomy.parameters
    assert resolved["length"] == 256  # the base's context
    assert resolved["memory"]["total"] > 0


def test_missing_base_is_one_sentence(study_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study_of("registers_2b").main(["--base", str(tmp_path / "none"), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot read the config")
    assert "Traceback" not in error


def test_data_is_found_given_or_named(study_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_of("registers_2b")
    at_scale = importlib.import_module("recipes.at_scale")
    source = at_scale.Source("law", ("law/a.txt", "law/b.txt"), "owner/law")
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path))
    assert source.find() == "owner/law"
    (tmp_path / "law").mkdir()
    (tmp_path / "law/a.txt").write_text("one", encoding="utf-8")
    assert source.find() == "owner/law"  # half of the files is none
    (tmp_path / "law/b.txt").write_text("two", encoding="utf-8")
    assert [record["text"] for record in source.find()] == ["one", "two"]
    assert source.find("mine.txt") == "mine.txt"


def test_retrieval_stands_beside_modules() -> None:
    """The page tells of each method what it learned and read ahead, and what the bare base can read at best."""
    from types import SimpleNamespace

    from addenda.telling.intervals import Interval

    retrieval = importlib.import_module("recipes.against_retrieval")

    def row(name: str, parameters: int, ahead: int) -> SimpleNamespace:
        one = Interval(0.25, 0.2, 0.3, 9)
        numbers = dict.fromkeys(("learned", "forgotten", "prefill", "decode"), one)
        return SimpleNamespace(method=name, parameters=parameters, extra_tokens=ahead, **numbers)

    found = SimpleNamespace(
        rows=[row("base", 0, 0), row("lora", 1000, 0), row("rag", 0, 128)],
        facts={"tokens": "many", "learning measured on": "articles: 28 documents"},
        remarks=("a remark",),
    )
    shares = {name: Interval(0.1, 0.0, 0.2, 25) for name in ("closed", "offline", "online", "oracle")}
    text = retrieval.page(found, shares, "Computed on: a CPU.")
    number = "0.250 [0.200, 0.300]"
    assert f"| lora | {number} | {number} | 1,000 | - | 0.25 [0.20, 0.30] | 0.25 [0.20, 0.30] |" in text
    assert f"| rag | {number} | {number} | - | 128 |" in text
    assert "| base |" not in text
    assert text.count("| 0.100 [0.000, 0.200] |") == 3
    assert "articles: 28 documents" in text
    assert "a remark" in text
