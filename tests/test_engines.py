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


def test_versions_are_those_of_the_constraints(engines: Any) -> None:
    (torch,) = engines.pinned("torch")
    assert torch in (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize(("others", "status"), [([], 1), (["--optional"], 1), (["ctranslate2", "--optional"], 0)])
def test_an_engine_that_cannot_be_installed_is_told(
    engines: Any, others: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def create(home: Path, **_: Any) -> None:
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python").symlink_to(sys.executable)

    absent = engines.Engine([str(tmp_path / "absent.whl")], "run_transformers.py")
    monkeypatch.setitem(engines.ENGINES, "transformers", absent)
    monkeypatch.setitem(engines.ENGINES, "ctranslate2", engines.Engine([], "run_ctranslate2.py"))
    monkeypatch.setattr(engines.venv, "create", create)
    monkeypatch.setattr(engines, "PROMPTS", ())
    monkeypatch.setattr(engines, "merged", lambda folder: None)
    asked = ["--venvs", str(tmp_path / "venvs"), "--engines", "transformers", *others]
    right = engines.run

    def run(name: str, *given: Any) -> Any:  # the other engine runs and is asked nothing
        return {"tokens": [], "version": "0"} if name == "ctranslate2" else right(name, *given)

    monkeypatch.setattr(engines, "run", run)
    assert engines.main(asked) == status
    assert "absent.whl cannot be installed: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os._exit(3)", "it ended with 3: it said nothing"),
        ("print('hello')", "its last line is no answer"),
        ('print(\'{"tokens": [[1]], "version": "0"}\')', "did not give 2 tokens"),
    ],
)
def test_an_engine_that_breaks_is_told(
    engines: Any, program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(program)
    monkeypatch.setattr(engines, "HERE", tmp_path)
    monkeypatch.setattr(engines, "python_of", lambda *_: Path(sys.executable))
    with pytest.raises(RuntimeError, match=said):
        engines.run("broken", engines.Engine([], "broken.py"), tmp_path, tmp_path, [[1]], 2)


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
