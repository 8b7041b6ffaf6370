"""The study of answers: what it asks, what a cell trains, and the table of its records."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

RECORDS = Path(__file__).parents[1] / "docs" / "results" / "answers"
pytestmark = pytest.mark.usefixtures("recipes")


def module() -> Any:
    return importlib.import_module("recipes.answers")


def given(**others: Any) -> argparse.Namespace:
    usual = {"seeds": [0, 1], "base": "smollm2", "ways": list(module().WAYS), "most": 100_000, "about": "handbook"}
    return argparse.Namespace(**usual | others)


def test_each_cell_has_a_name_of_its_own_and_the_quick_ones_come_first() -> None:
    cells = list(module().cells(given(), []))
    assert len({cell.id for cell in cells}) == len(cells)
    assert not any(set(", ") & set(cell.id) for cell in cells)
    assert {cell.tokens for cell in cells} == {0, 20_000, 80_000}
    first = [cell.minutes for cell in cells if cell.seed == 0]
    assert first == sorted(first)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_committed_records_keep_their_cells_and_questions() -> None:
    """That a handbook or people may be learned came later; what was asked then is asked first now, in the same order."""
    recipe = module()
    files = sorted(RECORDS.glob("*.json"))
    assert files
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        cell = recipe.Cell(**record["run"])
        assert cell.id == file.stem
        asked = [one.question for one in cell.document()[1]]
        assert [question for question, _ in record["said"]] == asked[: len(record["said"])]


def test_people_are_a_subject_of_their_own() -> None:
    recipe = module()
    cells = [cell for about in ("handbook", "people-25", "people-100") for cell in recipe.cells(given(about=about), [])]
    assert len({cell.id for cell in cells}) == len(cells)
    assert recipe.Cell("bare", 0, 0, about="people-25").id.startswith("people-25-bare-0-0-")
    for about, people in (("people-25", 25), ("people-100", 100)):
        book, asked = recipe.Cell("bare", 0, 1, about=about).document()
        assert book.text.count("\n## ") == people
        assert sum(bool(one.options) for one in asked) == 125
        assert len({one.question for one in asked}) == len(asked) == 130


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


def test_plain_questions_have_columns_of_their_own() -> None:
    """What is right of all is of the older sorts alone; a record from before plain ones leaves their columns empty."""
    old = {
        "right": {"direct": 2},
        "refused": {},
        "asked": dict.fromkeys(("direct", "turned", "combined", "unanswerable"), 2),
    }
    old |= {"seconds": 60.0, "parameters": 1, "run": {"way": "bare", "tokens": 0, "seed": 0}}
    new = old | {
        "right": {"direct": 2, "plain": 3},
        "refused": {"plain unanswerable": 1},
        "run": old["run"] | {"seed": 1},
    }
    new["asked"] = old["asked"] | {"plain": 4, "plain unanswerable": 2}
    heads, _, alone = (line.split(" | ") for line in module().report([old], Path()).splitlines())
    both = module().report([old, new], Path()).splitlines()[-1].split(" | ")
    plain, refused = heads.index("plain [95%]"), heads.index("refused of plain unanswerable")
    assert (alone[3][:4], alone[plain], alone[refused]) == ("0.33", "", "")
    assert (both[3][:4], both[plain][:4], both[refused]) == ("0.33", "0.75", "0.50")


def test_people_have_a_table_of_their_own() -> None:
    run = {"way": "LoRA", "tokens": 80_000, "seed": 0, "about": "people-25"}
    record = {
        "run": run,
        "right": {"direct": 1},
        "asked": {"direct": 4, "unanswerable": 2},
        "refused": {"unanswerable": 1},
    }
    record |= {"chosen": [1.0, 1.0, 0.0, 0.0], "seconds": 60.0, "parameters": 1, "forgotten": 0.5}
    lines = module().report([record], Path()).splitlines()
    assert lines[0].startswith("| people | way | tokens | seeds | written right [95%] | chosen of ten [95%] |")
    row = lines[2].split(" | ")
    assert row[:4] == ["| 25", "LoRA", "80,000", "1"]
    assert (row[4][:4], row[5][:4], *row[6:8]) == ("0.25", "0.50", "0.50", "0.500")


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
    assert "chosen" not in record


@pytest.mark.slow
def test_of_people_one_answer_of_ten_is_chosen_too(tmp_path: Path) -> None:
    recipe = module()
    name = recipe.make(recipe.Cell("bare", 0, 0, "tiny", "people-25"), tmp_path)
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(record["chosen"]) == record["asked"]["direct"] == 125
    assert 0 <= sum(record["chosen"]) <= 125 / 2
