"""The pages of studies: tables stand in the page that people read, every study has one, and every decision names its own."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from addenda.core.errors import AddendaError
from architecture import ROOT

pytestmark = pytest.mark.usefixtures("recipes")
RESULTS = ROOT / "docs" / "results"
STUDIES = sorted(path.stem for path in RESULTS.glob("*.md"))

TABLES = """\
### Ends

| method | gain |
| --- | --- |
| lora | 0.2 |

| sweep: method | lr |
| --- | --- |
| lora | 0.1 |

At the edge of its sweep: lora.
"""
PAGE = """\
# A study

Before.

<!-- tables: Ends -->
old
<!-- /tables -->

Between.

<!-- tables -->
<!-- /tables -->

After.
"""


def tables() -> Any:
    return importlib.import_module("recipes.tables")


def test_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "study.md"
    page.write_text(PAGE, encoding="utf-8")
    tables().write_tables(page, TABLES)
    text = page.read_text(encoding="utf-8")
    places = [text.index(part) for part in ("Before.", "### Ends", "Between.", "| sweep", "At the edge", "After.")]
    assert places == sorted(places)
    assert "old" not in text
    tables().write_tables(page, TABLES)
    assert page.read_text(encoding="utf-8") == text  # once more changes nothing
    tables().write_tables(page, TABLES.replace("0.2", "0.3"))
    assert page.read_text(encoding="utf-8") == text.replace("0.2", "0.3")


def test_tables_stand_in_the_order_of_the_titles() -> None:
    text = tables().filled("<!-- tables: At the edge; sweep; Ends -->\n<!-- /tables -->\n", TABLES, "study.md")
    places = [text.index(part) for part in ("At the edge of", "| sweep", "### Ends")]
    assert places == sorted(places)


def test_without_a_page_the_tables_are_the_page(tmp_path: Path) -> None:
    page = tmp_path / "study.md"
    for text in (TABLES, TABLES.replace("0.2", "0.3")):
        tables().write_tables(page, text)
        assert page.read_text(encoding="utf-8") == text


def test_a_page_without_a_place_for_a_table_is_an_error_and_stays(tmp_path: Path) -> None:
    file, page = tmp_path / "study.md", PAGE.replace("<!-- tables -->\n<!-- /tables -->\n", "")
    file.write_text(page, encoding="utf-8")
    with pytest.raises(AddendaError, match=r"no place for: \| sweep: method \| lr \|; At the edge"):
        tables().write_tables(file, TABLES)
    assert file.read_text(encoding="utf-8") == page


def test_a_place_without_a_table_stays_empty() -> None:
    page = PAGE.replace("Ends", "Widths; Ends")
    assert tables().filled(page, TABLES, "study.md") == tables().filled(PAGE, TABLES, "study.md").replace(
        "tables: Ends", "tables: Widths; Ends"
    )
    assert "old" not in tables().filled(PAGE.replace("Ends", "Widths"), TABLES, "study.md")


def made(study: str) -> str:
    """The tables that a study's records give."""
    if (RESULTS / study).is_dir():
        records = importlib.import_module("recipes.records").read_records(RESULTS / study)
        return importlib.import_module(f"recipes.{study}").report(records, RESULTS)
    report = json.loads((RESULTS / f"{study}.json").read_text(encoding="utf-8"))
    if study == "speed":
        return importlib.import_module("benchmarks.speed_page").markdown(report)
    return importlib.import_module("benchmarks.memorize").table(report)


CELLS = {
    "composition": "studies.run.Run", "gates": "gates.Cell", "learning_forgetting": "learning_forgetting.Run",
    "locas": "memory_plan.Run", "locas_mlp": "memory_plan.Run", "locas_recall": "locas_recall.Run",
    "methods/combiner": "methods_combiner.Cell", "methods/penalty": "methods_penalty.Cell",
    "methods/router": "methods_router.Cell", "neutral_residues": "studies.run.Run", "recall": "studies.run.Run",
    "registers": "studies.run.Run", "smollm2_french": "smollm2_french.Cell",
}  # fmt: skip


@pytest.mark.parametrize("study", CELLS)
def test_records_keep_their_names(study: str) -> None:
    """Under another name a run that is done would be made again."""
    module, cell = CELLS[study].rsplit(".", 1)
    of = getattr(importlib.import_module(f"recipes.{module}"), cell)
    found = {path.stem: json.loads(path.read_text())["run"] for path in (RESULTS / study).glob("*.json")}
    assert found
    assert [name for name, run in found.items() if of(**run).id != name] == []


@pytest.mark.parametrize(
    "study", ["gates", "locas_mlp", "locas_recall", "memorize", "smollm2_french", "smollm2_tasks", "speed"]
)
def test_tables_of_a_page_are_those_of_its_records(study: str) -> None:
    page = (RESULTS / f"{study}.md").read_text(encoding="utf-8")
    assert tables().filled(page, made(study), study) == page


@pytest.mark.slow
def test_studies_that_draw_make_their_pages_again(tmp_path: Path) -> None:
    records = importlib.import_module("recipes.records")
    frontier, memory = (importlib.import_module(f"recipes.{name}") for name in ("frontier", "memory_frontier"))
    texts = {
        "learning_forgetting": frontier.report(records.read_records(RESULTS / "learning_forgetting"), tmp_path),
        "locas": memory.report(records.read_records(RESULTS / "locas"), tmp_path),
    }
    for study, text in texts.items():
        page = (RESULTS / f"{study}.md").read_text(encoding="utf-8")
        assert tables().filled(page, text, study) == page


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_says_what_was_asked_answered_done_and_left_out(study: str) -> None:
    page = (RESULTS / f"{study}.md").read_text(encoding="utf-8")
    wanted = (
        "# ",
        "**Question.** ",
        "**Answer.** ",
        "## How it was done",
        "```bash",
        "<!-- tables",
        "## What is missing",
    )
    at = [page.find(part) for part in wanted]
    assert -1 not in at
    assert at[:3] == sorted(at[:3])
    shown = [mark["body"].strip() for mark in tables().MARKS.finditer(page)]
    assert shown
    assert all(shown)
    command = re.search(r"## How it was done.*?```bash\n(.*?)```", page, re.DOTALL)
    assert command
    assert re.search(r"^(python -m (recipes|benchmarks)\b|make bench)", command[1], re.MULTILINE)


def test_every_decision_leads_to_a_study_and_every_study_is_led_to() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    rows = page.split("## Decisions")[1].split("\n\n")[1].splitlines()[2:]
    assert rows
    assert [row for row in rows if not re.search(r"\]\(results/\w+\.md\)", row) and "the same" not in row] == []
    assert set(re.findall(r"\]\(results/(\w+)\.md\)", page)) == set(STUDIES)
    assert set(re.findall(r"^results/(\w+)$", page.split("{toctree}")[1], re.MULTILINE)) == set(STUDIES)
