"""The study of reading: exercises from questions by people, and the table of its records."""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

import addenda

pytestmark = pytest.mark.usefixtures("recipes")


def module() -> Any:
    return importlib.import_module("recipes.reading")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five paragraphs, two questions on each."""
    (tmp_path / "squad").mkdir()
    for at, name in enumerate(module().FILES):
        with gzip.open(tmp_path / "squad" / f"{name}.jsonl.gz", "wt") as out:
            for number in range(at * 3, 3 + at * 2):
                read = f"Mill {number} was built by Person {number} in {1800 + number}."
                for question, answer in (
                    ("Who built it?", f"Person {number}"),
                    ("When was it built?", f"{1800 + number}"),
                ):
                    out.write(json.dumps({"context": read, "question": question, "answers": [answer]}) + "\n")
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path))
    return tmp_path


def test_paragraphs_stand_before_the_first_question_alone(data: Path) -> None:
    made = module().exercises()
    assert len(made) == 2
    for one in made:
        first, *rest = [message["content"] for message in one["messages"] if message["role"] == "user"]
        assert first.count("Mill") == 2
        assert not any("Mill" in question for question in rest)
        assert len(one["messages"]) == 8
        for asked, answer in zip(one["messages"][::2], one["messages"][1::2], strict=True):
            assert answer["role"] == "assistant"
            assert answer["content"].rstrip(".") in first
            assert asked["content"].endswith("?")
    assert made == module().exercises()


def test_without_the_data_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path))
    with pytest.raises(addenda.AddendaError, match=r"xquad_en\.jsonl\.gz.*ADDENDA_DATA"):
        module().exercises()


def test_each_cell_has_a_name_and_the_table_tells_them_apart() -> None:
    recipe = module()
    cells = list(recipe.cells(argparse.Namespace(seeds=[0, 1], base="smollm2"), []))
    assert len({cell.id for cell in cells}) == len(cells) == 6
    records = [
        {
            "run": vars(cell),
            "right": {"plain": 3 if cell.reader else 1},
            "asked": {"plain": 4, "direct": 2, "turned": 1},
        }
        for cell in cells
    ]
    rows = [line.split(" | ") for line in recipe.report(records, Path()).splitlines()[2:]]
    assert [row[1] for row in rows] == ["no", "yes", "yes"]
    assert [row[3][:4] for row in rows] == ["0.25", "0.75", "0.75"]


@pytest.mark.slow
def test_a_cell_is_made_on_the_embedded_base(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = module()
    monkeypatch.setattr(recipe, "TOKENS", 2048)
    monkeypatch.setattr(recipe, "READER", tmp_path / "reader")
    monkeypatch.setattr(recipe, "exercises", lambda: recipe_exercises * 200)
    recipe_exercises = [
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody did."}]}
    ]
    for where in (recipe.SECTION, recipe.BOOK):
        recipe.make(recipe.Cell(where, reader=True, seed=0, base="tiny"), tmp_path)
    found = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("*.json"))]
    assert len(found) == 2
    assert all(sum(one["asked"].values()) == len(one["said"]) > 100 for one in found)
