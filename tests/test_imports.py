"""`import addenda` and `addenda --help` are cheap: neither imports torch, transformers or anything as heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "accelerate", "huggingface_hub", "matplotlib", "pandas", "numpy")


def loaded_after(code: str) -> set[str]:
    """The top-level packages in `sys.modules` after a program ran in a process of its own."""
    program = f"import json, sys\n{code}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_probe_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_after("import numpy.linalg")


def test_import_addenda_is_lazy() -> None:
    loaded = loaded_after("import addenda\nassert addenda.__version__\nassert 'attach' in dir(addenda)")
    assert "addenda" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_public_names_are_declared_and_there() -> None:
    import addenda

    missing = {}
    for name in addenda.__all__:
        try:
            getattr(addenda, name)
        except (AttributeError, ImportError) as error:
            missing[name] = str(error)
    assert missing == {}
    assert set(addenda.__all__) <= set(dir(addenda))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = addenda.nonsense


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_is_lazy(arguments: list[str]) -> None:
    code = f"""
from addenda.cli import main
sys.argv = ['addenda', *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    loaded = loaded_after(code)
    assert "typer" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_one_version() -> None:
    from importlib.metadata import version

    import addenda

    assert addenda.__version__ == version("addenda")
