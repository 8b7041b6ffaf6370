"""Printed commands run as they stand, in a shell, on the embedded base and on one in a folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from addenda.cli.commands import beginning, command
from addenda.cli.options import Dtype


def test_a_command_names_the_base_as_it_was_given() -> None:
    assert command("generate", "it's", base="tiny") == """addenda generate 'it'"'"'s'"""
    assert command("chat", base="my models/x", dtype=Dtype.BFLOAT16, device="cpu") == (
        "addenda chat --base 'my models/x' --dtype bfloat16 --device cpu"
    )
    assert command("chat", base="tiny", dtype=Dtype.AUTO) == "addenda chat"


def test_the_beginning_of_a_text_is_what_a_person_could_type(tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text("- The  first\nline, " + "and more " * 400)
    words, raw = beginning(str(long))
    assert words.startswith("The first line, and more")
    assert raw
    assert len(words) <= 200
    assert beginning(
        [{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Who are you?"}]}]
    ) == (
        "Who are you?",
        False,
    )
    assert beginning([{"prompt": "Ask", "completion": "x"}]) == ("Ask", False)
    assert beginning([{"text": "x" * 900}])[0] == "x" * 200
    assert beginning([{"text": "---"}]) == ("The", True)


def run_here(line: str, call: Any) -> dict[str, Any]:
    """Run a command line as printed, taken apart as a shell does, in this process; its JSON."""
    said = call(*shlex.split(line)[1:], "--json")
    assert said.code == 0, f"{line}\n{said.err}"
    return json.loads(said.out.splitlines()[-1])


def run(line: str, folder: Path) -> dict[str, Any]:
    """Run a command line as printed, in a shell; its JSON."""
    shell = f'addenda() {{ "{sys.executable}" -m addenda "$@"; }}\n{line} --json\n'
    done = subprocess.run(
        ["bash", "-c", shell], cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=os.environ
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def all_printed(said: Any) -> list[str]:
    """The commands that were printed, each on a line of its own."""
    return [line.removeprefix("next: ") for line in said.out.splitlines() if line.startswith("next: ")]


def printed(said: Any) -> str:
    """The one command that was printed."""
    (line,) = all_printed(said)
    return line


#: each verb on one of two bases by default, on the other among the slow tests
TINY, FOLDER = "tiny", "a folder"


def mostly(usual: str) -> Any:
    """Both bases, the usual one by default."""
    other = FOLDER if usual == TINY else TINY
    each = [usual, pytest.param(other, marks=pytest.mark.slow)]
    return pytest.mark.parametrize("based", each, indirect=True)


@pytest.fixture
def based(request: pytest.FixtureRequest, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that name a base, none for `tiny`; runs go to a working folder of their own."""
    monkeypatch.chdir(tmp_path)
    if request.param == "tiny":
        return []
    (tmp_path / "my base").symlink_to(place.base)
    return ["--base", "my base", "--dtype", "float32"]


@mostly(FOLDER)
def test_train_calibrate_and_list(call: Any, place: Any, based: list[str], tmp_path: Path) -> None:
    words = ["train", "m", "--corpus", place.corpus, "--replay", place.replay, "--tokens", "256", "--length", "32"]
    said = call(*words, "--batch-rows", "4", "--set", "width=8", *based)
    assert said.code == 0, said.err
    line, measure = all_printed(said)
    assert shlex.split(line)[2].startswith("the patients were given insulin")
    assert run_here(f"{measure} --tokens 200", call)["neutrality"]
    found = run(line, tmp_path)
    assert found["modules"] == {"m": 1.0}
    assert [one["by"] for one in found["prompts"][0]["continuations"]] == ["base", "m"]
    assert found["chat"] is False
    said = call("calibrate", "runs/m", "--on", place.replay, "--tokens", "300", "--share", "0.5", *based)
    assert said.code == 0, said.err
    assert run_here(f"{printed(said)} --tokens 200", call)["neutrality"]


@mostly(TINY)
def test_memorize_and_merge(call: Any, place: Any, based: list[str], tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(Path(place.corpus).read_text()[:1500])
    words = [
        "memorize",
        "b",
        "--text",
        "book.txt",
        "--window",
        "64",
        "--chunk",
        "32",
        "--set",
        "rank=4",
        "--out",
        "b dir",
    ]
    said = call(*words, "--replay", "none", "--local", "0", "--no-baseline", *based)
    assert said.code == 0, said.err
    assert run_here(printed(said), call)["modules"] == {"b": 1.0}
    said = call("merge", "--plug", "b dir", "--out", "merged", "--probe", place.replay, *based)
    assert said.code == 0, said.err
    assert run(printed(said), tmp_path)["base"] == "merged"


def test_where_a_gate_opens(call: Any, place: Any, trained: Path) -> None:
    words = ["generate", "zz", "--raw", "--plug", trained, "--side-by-side", "--base", place.base, "--max-tokens", "1"]
    said = call(*words)
    if "Nothing changed" in said.out:
        (line,) = [line for line in said.out.splitlines() if line.startswith("addenda inspect")]
        assert run(line, trained.parent)["activity"]["module"]
