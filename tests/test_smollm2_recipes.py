"""The studies on SmolLM2: what they plan, what their pages say of records, and a small run of one on a pico model."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from addenda.core.errors import AddendaError
from pico import pico, pico_tokenizer

pytestmark = pytest.mark.usefixtures("recipes")


def french() -> Any:
    return importlib.import_module("recipes.smollm2_french")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pico base and a data folder with a little of every text."""
    from recipes.studies import subjects

    pico("llama").save_pretrained(tmp_path / "base")
    pico_tokenizer().save_pretrained(tmp_path / "base")
    texts = {
        "french/novels_train": ["le moulin et la riviere " * 1200] * 2, "french/novels_valid": ["la vieille route " * 3000],
        "french/python_docs_train": [f"la fonction {n} renvoie une liste " * 30 for n in range(8)],
        "wikitext2/valid": [f"the river {n} ran past the mill " * 30 for n in range(8)],
    }  # fmt: skip
    for name, found in texts.items():
        path = tmp_path / "data" / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as out:
            out.writelines(json.dumps({"text": one}) + "\n" for one in found)
    with gzip.open(tmp_path / "replay.jsonl.gz", "wt") as out:
        out.writelines(json.dumps({"text": f"once upon a time {n} " * 60}) + "\n" for n in range(40))
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)  # checkpoints lie under runs/
    for one in (subjects.subject, french().held_out):
        one.cache_clear()
    return tmp_path


def asked(place: Path, *more: str) -> list[str]:
    return [
        "--base", str(place / "base"), "--replay", str(place / "replay.jsonl.gz"), "--docs", str(place / "docs"), "--seeds", "0",
        "--tokens", "4096", "--sweep-tokens", "2048", "--held", "400", "--questions", "2", "--chats", "3", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_small_run_is_kept_and_told_and_not_made_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = french()
    module.main(asked(place, "--rate", "default=3e-3", "lora=1e-3"))
    folder = place / "docs" / "smollm2_french"
    records = {one["run"]["method"]: one for one in (json.loads(path.read_text()) for path in folder.glob("*.json"))}
    assert set(records) == {"default", "lora"}
    assert "1 of 2" in capsys.readouterr().out
    for one in records.values():
        assert set(one["gains"]) == {"novels", "python_docs"}
        assert one["kl"]["value"] >= 0
        assert one["chats"]["changed"]["n"] == 3
        assert ("gate" in one) == (one["run"]["method"] == "default")
        assert one["questions"]["pooled"]["change"]["low"] <= one["questions"]["pooled"]["change"]["value"]
    size = {name: one["parameters"] for name, one in records.items()}
    assert 0.5 < size["lora"] / size["default"] < 1.5
    assert records["default"]["run"]["options"]["gate"], "what a default was is written down"
    page = (place / "docs" / "smollm2_french.md").read_text()
    for told in (
        "What is learned of French",
        "shuts after, tokens",
        "KL from the base",
        "chat answers changed",
        "| all sets |",
        "| lora |",
    ):
        assert told in page, told
    stamps = [path.stat().st_mtime_ns for path in folder.glob("*.json")]
    module.main(asked(place, "--rate", "default=3e-3", "lora=1e-3"))
    assert stamps == [path.stat().st_mtime_ns for path in folder.glob("*.json")]
    assert "0 of 2 cells have no record" in capsys.readouterr().out


def test_a_dry_run_lists_the_cells_and_their_minutes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = french()
    module.main([*asked(place), "--dry-run", "--methods", "default", "lora", "--seeds", "0", "1"])
    said = capsys.readouterr().out
    assert said.count("to do sweep-") == 6
    assert said.count("to do methods-default-") == said.count("to do methods-lora-") == 2
    assert "6 of 6 cells have no record, about" in said
    assert "chosen by the sweep; listed is the middle one" in said
    whole = module.cell(module.arguments(["--held", "12000"]), "default", part="methods", lr=1e-3, tokens=60_000)
    assert 4 < whole.minutes < 10
    assert whole.minutes - 60_000 / module.TRAINED / 60 < 6, "what is measured takes at most six minutes"


def test_a_rate_is_the_one_whose_sweep_gained_most(place: Path) -> None:
    module = french()
    given = module.arguments([*asked(place), "--methods", "lora"])
    swept = [
        {"id": one.id, "run": vars(one), "gains": {"french": [gain] * 3}}
        for one, gain in zip(module.sweep(given, []), (0.1, 0.3, 0.2), strict=True)
    ]
    (chosen,) = module.then(given, swept)
    assert (chosen.method, chosen.lr) == ("lora", module.LORA[1])
    assert list(module.then(given, swept[:2])) == [], "its sweep is not done"
    other = module.arguments([*asked(place), "--methods", "lora", "--sweep-tokens", "4096"])
    assert list(module.then(other, swept)) == [], "another sweep's records tell nothing"


@pytest.mark.parametrize("wrong", ["lora", "lora=fast", "loar=1e-3"])
def test_a_rate_that_is_none_is_told(place: Path, wrong: str) -> None:
    with pytest.raises(AddendaError, match="METHOD=RATE|no method loar"):
        french().arguments(["--rate", wrong])


def test_rounding_again_moves_weights_of_four_bits_by_half_a_step_at_most(place: Path) -> None:
    import torch

    tasks = importlib.import_module("recipes.smollm2_tasks")
    model = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.Linear(64, 48))
    with torch.no_grad():
        levels = torch.randint(0, 16, (96, 32), generator=torch.Generator().manual_seed(0)).float()
        levels[:, :2] = torch.tensor([0.0, 15.0])
        model[0].weight.copy_((levels * 0.5 - 3).view(48, 64))
    before = [layer.weight.detach().clone() for layer in model]
    assert tasks.round_again(model) == 48 * 64
    moved = [(layer.weight.detach() - was).abs() for layer, was in zip(model, before, strict=True)]
    assert 0.2 < float(moved[0].max()) <= 0.25
    assert float(moved[0].mean()) == pytest.approx(0.125, rel=0.1)
    assert float(moved[1].max()) == 0.0, "weights of more bits stay"


def test_the_table_of_tasks_has_both_metrics_and_what_is_published(place: Path) -> None:
    tasks = importlib.import_module("recipes.smollm2_tasks")

    def record(name: str, acc: float, normed: float) -> dict[str, Any]:
        shares = {metric: {"value": value, "n": 100} for metric, value in (("acc", acc), ("acc_norm", normed))}
        return {"set": name, "of": 200, "chance": 0.5, "shares": shares, "package": "p 1", "device": "a CPU"}

    again = record("arc_easy", 0.5, 0.4) | {"rounded again": 2_000_000}
    told = tasks.report([again, record("arc_easy", 0.54, 0.45), record("piqa", 0.6, 0.66)], place)
    assert "| piqa | acc_norm | 100 of 200 | 66.0% | 4.7% | 66.9% | 50% |" in told
    assert "| arc_easy | acc | 100 of 200 | 54.0% | 5.0% | 54.1% | 50% |" in told
    assert "| arc_easy | acc_norm | 100 of 200 | 45.0% | 5.0% | - | 50% |" in told
    assert "| arc_easy, rounded once more | acc | 100 of 200 | 50.0% | 5.0% | - | 50% |" in told
    assert told.index("| piqa |") < told.index("| arc_easy |") < told.index("| arc_easy, rounded")
