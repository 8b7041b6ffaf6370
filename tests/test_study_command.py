"""A study's command: what has a record is not made again, a later stage sees an earlier one, tables come from all records."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("recipes")


@dataclass(frozen=True)
class Cell:
    name: str

    @property
    def id(self) -> str:
        return self.name


def asked(place: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **more: Any) -> list[str]:
    """The command of a study of two stages, the second of which has a cell for each record of the first."""
    study, made = importlib.import_module("recipes.study"), []

    def make(cell: Cell, folder: Path) -> str:
        made.append(cell.name)
        (folder / f"{cell.name}.json").write_text(json.dumps({"name": cell.name}))
        return cell.name

    monkeypatch.setattr(study, "in_processes", lambda work, tasks, workers: [work(*task) for task in tasks])
    given = study.parser_of("A study", first_tokens=10).parse_args(["--docs", str(place), *words])
    assert given.first_tokens == 10
    stages = (
        lambda given, records: [Cell("a"), Cell("b")],
        lambda given, records: [Cell(f"{one['name']}-then") for one in records if "then" not in one["name"]],
    )
    study.conduct(
        "mine", given, stages, make, lambda records, folder: f"| {len(records)} records |\n" * bool(records), **more
    )
    return made


def test_each_cell_is_made_once_and_a_later_stage_sees_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(tmp_path, monkeypatch, "--dry-run") == []
    assert capsys.readouterr().out.splitlines()[:3] == ["to do a", "to do b", "2 of 2 cells have no record"]
    assert asked(tmp_path, monkeypatch, "--report") == []
    assert not list(tmp_path.iterdir()), "nothing was made, and nothing is left"
    assert asked(tmp_path, monkeypatch) == ["a", "b", "a-then", "b-then"]
    assert (tmp_path / "mine.md").read_text() == "| 4 records |\n"
    (tmp_path / "mine/b.json").unlink()
    assert asked(tmp_path, monkeypatch, paged=False) == ["b"]
    capsys.readouterr()
    assert asked(tmp_path, monkeypatch, "--report") == []
    assert capsys.readouterr().out.startswith("| 4 records |")
