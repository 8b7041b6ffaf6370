"""The comparison of engines: what counts as the same, and a merged model in a process that has no Addenda."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    yield importlib.import_module("engines.__main__")
    for name in [name for name in sys.modules if name.split(".")[0] == "engines"]:
        del sys.modules[name]


def test_tokens_may_part_at_a_tie_alone(engines: Any) -> None:
    wanted, ties = [1, 2, 3, 4], [False, True, False, False]
    assert engines.compared(wanted, ties, [1, 2, 3, 4]) == (4, "same")
    assert engines.compared(wanted, ties, [1, 9, 9, 9]) == (1, "tie")
    assert engines.compared(wanted, ties, [1, 2, 9, 4]) == (2, "differs")


def test_every_engine_has_its_file(engines: Any) -> None:
    for engine in engines.ENGINES.values():
        assert "addenda" not in (engines.HERE / engine.file).read_text().replace('"addenda" not in sys.modules', "")
        assert engine.reads in ("checkpoint", "gguf")


@pytest.mark.slow
def test_a_merged_model_runs_without_addenda(
    engines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "python_of", lambda name, engine, folder: Path(sys.executable))
    asked = ["--engines", "transformers", "--model", str(tmp_path), "--venvs", str(tmp_path), "--steps", "200"]
    assert engines.main(asked) == 0
    assert "| 200, 200, 200, 200 | same |" in capsys.readouterr().out
    right = engines.run
    monkeypatch.setattr(
        engines, "run", lambda *given: (found := right(*given)) | {"tokens": [[0] * 200 for _ in found["tokens"]]}
    )
    assert engines.main(asked) == 1  # another model's tokens are told apart
    assert "differs" in capsys.readouterr().out
