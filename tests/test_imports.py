"""`import addenda` and `addenda --help` are cheap: neither imports torch, transformers or anything as heavy."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: imported only where the user has them: asked for by name, or to read another library's objects
OPTIONAL: dict[str, str] = {}

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


def test_type_checkers_see_every_public_name() -> None:
    import addenda

    tree = ast.parse(Path(addenda.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    seen = {
        (alias.asname, node.module)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(name, f"addenda.{where}") for name, where in addenda._WHERE.items()}


#: packages that are imported under another name than they are installed by
SPELLED = {"python_docx": "docx", "beautifulsoup4": "bs4", "markdown_it_py": "markdown_it"}


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for name, found in project["optional-dependencies"].items() if name != "dev" for one in found]
    declared = {
        re.split(r"[\[>=<;! ]", one, maxsplit=1)[0].replace("-", "_") for one in (*project["dependencies"], *extras)
    }
    found: dict[str, str] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(str(node.module))
            found |= {name.split(".")[0]: path.name for name in names}
    ours = {SPELLED.get(name, name) for name in declared} | set(sys.stdlib_module_names) | {"addenda"}
    assert {package: where for package, where in found.items() if package not in ours} == OPTIONAL


def test_every_kind_of_the_package_is_a_public_name() -> None:
    import addenda
    from addenda.core.registry import kinds

    own = {name for name, kind in kinds().items() if kind.__module__.startswith("addenda.")}
    assert own <= set(addenda.__all__)
    assert all(getattr(addenda, name) is kinds()[name] for name in own)
