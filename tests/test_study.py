"""The study of learning against forgetting: its plan, its curves, and a whole small run of it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("recipes")


def module(name: str) -> Any:
    return importlib.import_module(f"recipes.{name}")


def points(*pairs: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"origin": "training", "at": 0, "gain": [g] * 3, "forgetting": [f] * 3} for g, f in pairs]


def test_weights_below_one_are_points_of_their_own_curve() -> None:
    frontier = module("frontier")
    one = record("study", "lora", 1e-3, 0.5)
    one["points"] += points((0.4, 0.1))
    one["weights"] = [{**points((0.3, 0.01))[0], "origin": "weight"}]
    one["thresholds"] = [{**points((0.2, 0.0))[0], "length": length} for length in (64, 256)]
    assert [p["gain"][0] for p in frontier.along([one])] == [0.4, 0.2]
    assert [p["gain"][0] for p in frontier.along([one], weights=True)] == [0.4, 0.2, 0.3]
    text = "\n".join(
        frontier._ratios({"neutral-token": {0: [one]}, "lora": {0: [one]}, "full": {0: [one | {"weights": []}]}})
    )
    assert text.count("| neutral-token | lora |") == 2


def record(part: str, method: str, lr: float, gain: float) -> dict[str, Any]:
    run = {"part": part, "method": method, "lr": lr, "seed": 0, "tokens": 1, "options": {}, "settings": {}}
    return {"run": run, "points": [{"origin": "end", "at": 1, "gain": [gain] * 3, "forgetting": [0.1] * 3}]}


def test_the_rate_that_learned_most_goes_on() -> None:
    study = module("learning_forgetting")
    records = [record("sweep", "lora", lr, gain) for lr, gain in ((1e-3, 0.2), (3e-3, 0.3), (1e-2, 0.1))]
    records.append(record("study", "lora", 1.0, 9.0))
    old = record("sweep", "lora", 1.0, 9.0)  # of settings that are no longer the method's
    old["run"]["settings"] = {"local": 5.0}
    records.append(old)
    rates = study.chosen_rates(records)
    assert rates == {"lora": 3e-3}
    runs = study.study(rates, 1000, [0, 1])
    assert [run.lr for run in runs if run.part == "study"] == [3e-3, 3e-3]
    assert {run.lr for run in runs if run.part == "knobs"} == {1e-3}
    assert len({run.id for run in runs}) == len(runs)
    shorter = study.study(rates, 1000, [0], 500)
    assert {(run.part, run.tokens) for run in shorter} == {("study", 1000), ("knobs", 500)}


def test_precision_is_told_and_compared(tmp_path: Path) -> None:
    study, frontier = module("learning_forgetting"), module("frontier")
    coarse, fine, main = (record(part, "lora", 1e-3, 0.2) for part in ("sweep", "precision", "study"))
    for one, told in ((coarse, "bf16"), (fine, "fp32"), (main, "fp32")):
        one["device"] = f"x86_64 CPU, 1 thread(s), {told}"
    fine["points"][0]["gain"] = [0.25] * 3
    main["points"] += points((0.2, 0.1), (0.3, 0.2))
    text = frontier.report([coarse, fine, main], tmp_path)
    assert "| lora | 0.001 | 0.200 [0.200, 0.200] | 0.250 [0.250, 0.250] |" in text
    assert "| all | fp32 |" in text
    common = module("common")
    with common.computing_in("fp32"):
        assert common.precision() == "fp32"
    runs = study.in_float32({"lora": 1e-3, "full": 1.0}, 1000)
    assert [(run.part, run.method, run.lr) for run in runs] == [("precision", "lora", 1e-3)]


def test_every_method_of_the_plan_has_a_colour() -> None:
    assert set(module("learning_forgetting").METHODS) <= set(module("drawing").COLOURS)


@pytest.mark.slow
def test_a_small_study_runs_resumes_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = module("learning_forgetting")
    for name, value in {"ALONG": 400, "END": 600, "SHARE_TOKENS": 512, "SHARES": (0.5,), "ROWS": 2}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path / "none"))  # the samples that ship
    out, records = tmp_path / "out", tmp_path / "docs" / "learning_forgetting"
    records.mkdir(parents=True)
    runs = study.study({"neutral-context": 1e-3, "full": 1e-4}, 2048, [0])[:2]
    for run in runs:
        study.make(run, records, out)
    found = [json.loads(path.read_text()) for path in sorted(records.glob("*.json"))]
    assert all(p["gain"][1] <= p["gain"][0] <= p["gain"][2] for one in found for p in one["points"])
    by_method = {one["run"]["method"]: one for one in found}
    assert by_method["neutral-context"].keys() - by_method["full"].keys() >= {"weights", "thresholds"}
    study.make(next(run for run in runs if run.kind == "full"), records, out)  # from its last checkpoint
    path = next(records.glob("study-full-*.json"))
    assert json.loads(path.read_text())["points"] == by_method["full"]["points"]
    text = module("frontier").report(found, tmp_path / "docs")
    assert "| neutral-context | as trained | 64 |" in text
    assert (tmp_path / "docs/frontier.png").stat().st_size > 10_000
    assert (tmp_path / "docs/thresholds.svg").exists()
