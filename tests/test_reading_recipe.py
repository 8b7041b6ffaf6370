"""The study of reading: what is plugged in each cell, and the table of its records."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from addenda.teaching import practice
from addenda.tiny.paragraphs import Paragraph

pytestmark = pytest.mark.usefixtures("recipes")


def module() -> Any:
    return importlib.import_module("recipes.reading")


def test_each_cell_has_a_name_and_the_table_tells_them_apart() -> None:
    recipe = module()
    cells = list(recipe.cells(argparse.Namespace(seeds=[3, 4], base="smollm2"), []))
    assert len({cell.id for cell in cells}) == len(cells) == 10
    records = [
        {
            "run": vars(cell),
            "right": {"plain": 3 if cell.reader else 1},
            "refused": {"plain": 1, "unanswerable": 1},
            "asked": {"plain": 4, "direct": 2, "turned": 1, "unanswerable": 1, "plain unanswerable": 1},
        }
        for cell in cells
    ]
    rows = [line.split(" | ") for line in recipe.report(records, Path()).splitlines()[2:]]
    assert [(row[0].strip("| "), row[1]) for row in rows] == [
        (recipe.SECTION, "no"), (recipe.SECTION, "yes"), (recipe.PAGES, "no"), (recipe.PAGES, "yes"), (recipe.STUDIED, "yes")
    ]  # fmt: skip
    assert [row[3][:4] for row in rows] == ["0.25", "0.75", "0.25", "0.75", "0.75"]
    assert [row[7][:4] for row in rows] == ["- |", "- |", "0.50", "0.50", "0.50"]


@pytest.mark.slow
def test_a_cell_is_made_on_the_embedded_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = module()
    few = [Paragraph("a", "The mill was built in 1901.", (("When was the mill built?", "1901."),))]
    monkeypatch.setattr(practice, "paragraphs", lambda: few)
    monkeypatch.setattr(practice, "LENGTH", 16)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(recipe, "TOKENS", 1024)
    monkeypatch.setattr(recipe, "ANSWER", 2)
    for where, reader in ((recipe.SECTION, True), (recipe.PAGES, False), (recipe.STUDIED, True)):
        recipe.make(recipe.Cell(where, reader=reader, seed=0, base="tiny"), tmp_path)
    found = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("*.json"))]
    assert len(found) == 3
    assert all(sum(one["asked"].values()) == len(one["said"]) > 100 for one in found)
    assert {"unanswerable" in one["asked"] for one in found} == {True, False}
