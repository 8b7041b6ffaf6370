"""The study of answers: what it asks, what a cell trains, and the table of its records."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("recipes")


def module() -> Any:
    return importlib.import_module("recipes.answers")


def test_each_cell_has_a_name_of_its_own_and_the_quick_ones_come_first() -> None:
    cells = list(
        module().cells(argparse.Namespace(seeds=[0, 1], base="smollm2", ways=list(module().WAYS), most=100_000), [])
    )
    assert len({cell.id for cell in cells}) == len(cells)
    assert not any(set(", ") & set(cell.id) for cell in cells)
    assert {cell.tokens for cell in cells} == {0, 20_000, 80_000}
    first = [cell.minutes for cell in cells if cell.seed == 0]
    assert first == sorted(first)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_the_table_has_a_row_for_each_way_and_number_of_tokens() -> None:
    asked = {"direct": 10, "turned": 6, "combined": 4, "unanswerable": 5}
    one = {"right": {"direct": 5, "turned": 3}, "refused": {"unanswerable": 1, "direct": 1}, "asked": asked}
    one |= {"seconds": 120.0, "parameters": 1_000_000, "forgotten": 0.5}
    runs = [{"way": "LoRA", "tokens": 80_000, "seed": seed} for seed in (0, 1)]
    records = [one | {"run": run} for run in runs] + [
        one | {"run": {"way": "bare", "tokens": 0, "seed": 0}, "right": {}, "parameters": 0}
    ]
    lines = module().report(records, Path()).splitlines()
    assert [line.split(" | ")[:4] for line in lines[2:]] == [
        ["| bare", "0", "1", "0.00 [0.00, 0.17]"],
        ["| LoRA", "80,000", "2", "0.40 [0.24, 0.56]"],
    ]
    assert lines[3].split(" | ")[4:8] == [
        "0.50 (0.50 to 0.50)",
        "0.50 (0.50 to 0.50)",
        "0.00 (0.00 to 0.00)",
        "0.20 (0.20 to 0.20)",
    ]


def test_a_whole_teach_tells_what_else_moved() -> None:
    def share(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    told = {"right": {"held-out exercises": share(0.5)}, "forgot": share(0.0)}
    told |= {name: share(value) for name, value in (("changed", 0.2), ("after", 0.8), ("leaked", 0.1))}
    record = {
        "run": {"way": "teach", "tokens": 80_000, "seed": 3},
        "right": {"direct": 1},
        "refused": {},
        "seconds": 60.0,
    }
    record |= {
        "asked": dict.fromkeys(("direct", "turned", "combined", "unanswerable"), 2),
        "parameters": 1,
        "taught": told,
    }
    last = module().report([record], Path()).splitlines()[-1]
    assert last == "| 3 | 0.50 [0.40, 0.60] | 0.20 [0.10, 0.30] | 0.80 [0.70, 0.90] | 0.10 [0.00, 0.20] | +0.0000 |"


@pytest.mark.slow
def test_a_cell_trains_asks_and_leaves_its_record(tmp_path: Path) -> None:
    recipe = module()
    name = recipe.make(recipe.Cell("LoRA, none reworded", 4096, 0, "tiny"), tmp_path)
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert sum(record["asked"].values()) == len(record["said"]) > 100
    assert record["parameters"] > 0
    assert record["forgotten"] != 0.0
    assert record["run"]["way"] == "LoRA, none reworded"
