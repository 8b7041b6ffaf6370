"""The examples: each runs as it stands, on samples, with a few steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
#: what each says at its end, and what it leaves behind
SAID = {
    "adapt_to_your_corpus": ("kept in runs/example", "runs/example/README.md"),
    "add_a_language": ("nats per token: new language", None),
    "remember_a_book": ("added to the loss of general text", "runs/example-book-merged/merge.json"),
    "compare_with_lora_and_rag": ("look at runs/example-compare/report.html", "runs/example-compare/report.html"),
    "evaluate_with_lm_eval": ("medicine: ", None),
}


def test_every_example_is_run_and_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAID)
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}.py`" in readme for name in SAID)


@pytest.mark.slow
def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "remember_a_book.py", "--text", "nowhere.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "nowhere.txt" in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_examples_run(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "evaluate_with_lm_eval":
        pytest.importorskip("lm_eval")
        request.getfixturevalue("data_dir")
    if name == "compare_with_lora_and_rag":
        pytest.importorskip("bm25s")
    command = [sys.executable, EXAMPLES / f"{name}.py", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    said, left = SAID[name]
    assert said in done.stdout, done.stdout
    assert left is None or (tmp_path / left).exists()
