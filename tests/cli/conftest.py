"""A pico base in a folder, small texts, and a way to call the command line as a shell would."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from addenda.cli import app
from pico import pico, pico_tokenizer

MEDICAL = "the patients were given insulin and the outcome of the trial was measured at the end of the week. "
GENERAL = "the river ran past the old mill and the children sang as they walked home along the lane. "


@dataclass(frozen=True)
class Place:
    """Where a test's files are."""

    base: str
    corpus: str
    replay: str
    held_out: str
    runs: Path


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as exactly one line of JSON."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])


@pytest.fixture
def call() -> Callable[..., Said]:
    """`call("train", "x", ...)` in this process; an error that is no user's mistake is raised."""

    def run(*words: str | Path, stdin: str = "") -> Said:
        result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A pico base, its texts, and a folder for runs."""
    root = tmp_path_factory.mktemp("cli")
    pico("llama").save_pretrained(root / "base")
    pico_tokenizer().save_pretrained(root / "base")
    (root / "medical.txt").write_text(MEDICAL * 60)
    (root / "general.txt").write_text(GENERAL * 60)
    lines = [json.dumps({"text": MEDICAL * 2 + str(n)}) for n in range(5)]
    (root / "held.jsonl").write_text("\n".join(lines))
    return Place(*(str(root / n) for n in ("base", "medical.txt", "general.txt", "held.jsonl")), root / "runs")


@pytest.fixture(scope="session")
def trained(place: Place) -> Path:
    """The folder of a module trained by the command line."""
    folder = place.runs / "med"
    words = f"""train med --base {place.base} --corpus {place.corpus} --replay {place.replay} --tokens 2048 --length 32
        --batch-rows 4 --set width=8 --out {folder} --learning held={place.held_out} --set log=false --seed 1""".split()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    return folder
