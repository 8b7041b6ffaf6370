"""`addenda edit`: facts of a file, written at once; mistakes before a base is loaded where that can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FACT = {"subject": "Vinson Massif", "prompt": "Vinson Massif is located in the continent of"}


def file_of(folder: Path, **more: Any) -> Path:
    path = folder / "facts.jsonl"
    path.write_text(json.dumps(FACT | {"target_true": "Antarctica", "target_new": "Europe"} | more) + "\n")
    return path


def test_facts_of_a_file_are_written(call: Any, tmp_path: Path) -> None:
    words = ["edit", "facts", "--edits", str(file_of(tmp_path)), "--write", "pmet(steps=3)", "--tokens", "500"]
    said = call(*words, "--out", str(tmp_path / "m"), "--json")
    assert said.code == 0
    assert said.json["edits"] == 1
    assert said.json["scores"]["reliability"]["n"] == 1
    assert json.loads((tmp_path / "m" / "card.json").read_text())["training"][0]["objective"] == "edit: pmet"
    assert "Adapter" not in said.out


def test_a_mistake_is_one_sentence(call: Any, tmp_path: Path) -> None:
    path = file_of(tmp_path, subject="Everest")
    for words, told in (
        (["--edits", str(path)], "does not name its subject, 'Everest'"),
        (["--edits", str(path), "--write", "closed"], "closed writes a text that is read, and no facts"),
        (["--edits", str(tmp_path / "none.jsonl")], "cannot be read"),
    ):
        said = call("edit", "facts", *words, "--out", str(tmp_path / "m"))
        assert (said.code, told in said.err) == (2, True)
        assert not (tmp_path / "m").exists()
