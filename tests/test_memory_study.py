"""The study of memories: its plan, its comparisons at equal forgetting, and a small reading of every method."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import addenda
from addenda.texts import texts

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path / "absent"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "recipes"]:
        del sys.modules[name]


def module(name: str) -> Any:
    return importlib.import_module(f"recipes.{name}")


def record(method: str, gain: float, forgetting: float, **more: Any) -> dict[str, Any]:
    run = {
        "part": "study",
        "method": method,
        "book": "b",
        "seed": 0,
        "options": {},
        "settings": {},
        "kind": "LoRA",
    } | more
    return {"run": run, "gain": gain, "forgetting": forgetting, "parameters": 100, "time": 1.5}


def test_gain_is_compared_at_equal_forgetting() -> None:
    report = module("memory_frontier")
    ours = report.curve_of([record("locas", 0.2, 0.1), record("locas", 0.4, 0.2), record("locas", 0.3, 0.5)])
    theirs = report.curve_of([record("templora", 0.1, 0.1), record("templora", 0.2, 0.2)])
    assert report.at_equal_forgetting(ours, theirs) == pytest.approx(2.0)
    assert report.at_equal_forgetting(theirs, ours) == pytest.approx(0.5)
    far = report.curve_of([record("templora", 0.9, 0.6)])
    assert report.at_equal_forgetting(ours, far) is None  # below its one point nothing is known of it
    useless = report.curve_of([record("templora", -0.1, 0.1)])
    assert report.at_equal_forgetting(ours, useless) is None


def test_only_settings_that_none_betters_go_on() -> None:
    study = module("locas")
    found = [(0.1, 0.01), (0.2, 0.05), (0.15, 0.06), (0.3, 0.2), (-0.1, 0.0), (0.4, 0.3), (0.5, 0.4), (0.6, 0.9)]
    sweep = [record("locas", *point, part="sweep", settings={"lr": n}) for n, point in enumerate(found)]
    kept = [run["settings"]["lr"] for run in study.best(sweep, "locas")]
    assert kept[0] == 0
    assert kept[-1] == 7
    assert len(kept) == 4
    assert not {2, 4} & set(kept)
    runs = study.study(sweep, 1000, [0, 1], ["Dickens_Bleak", "Eliot_Daniel"])
    assert len(runs) == 4 * 2 * 2
    assert len({run.id for run in runs}) == len(runs)


@pytest.mark.slow
def test_every_method_reads_a_little_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, report = module("locas"), module("memory_frontier")
    monkeypatch.setattr(study, "GENERAL", 1000)
    with pytest.raises(addenda.AddendaError, match="no book 'Dickens_Bleak'"):
        study.text_of("Dickens_Bleak")
    monkeypatch.setattr(study, "text_of", lambda _: "\n".join(record["text"] for record in texts("pubmed_train")))
    records = tmp_path / "locas"
    records.mkdir()
    for method, (kind, grid) in study.grids().items():
        options, settings = list(grid)[-1]
        run = study.Run("sweep", method, "Dickens_Bleak", kind, options, settings, 1500)
        study.execute(run, records)
        written = json.loads((records / f"{run.id}.json").read_text())
        assert 1400 < written["tokens"] <= 1500
        assert written["time"] > 1
        assert abs(written["gain"]) < 1
    text = report.report(study.read_records(records), tmp_path)
    assert (tmp_path / "locas.svg").exists()
    assert "| sweep: method" in text
    shown = report.report(
        [record("locas", 0.2, 0.1), record("locas", 0.3, 0.3), record("templora", 0.3, 0.2)], tmp_path
    )
    assert "| locas | templora |" in shown
