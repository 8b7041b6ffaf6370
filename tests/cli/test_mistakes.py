"""A user's mistake ends in exit code 2 and one sentence: on standard error, and as JSON where that was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from addenda.cli import application
from addenda.cli.answers import answering
from addenda.cli.application import guarded

MISTAKES: dict[str, tuple[str, str]] = {
    "no such verb": ("tain", "No such command 'tain'"),
    "no such flag": ("generate hi --sed 3", "--sed"),
    "a flag without its value": ("evaluate --on", "--on"),
    "a missing flag": ("train x --tokens 5", "Missing option '--corpus'"),
    "a number that is none": ("train x --corpus {corpus} --tokens many", "Invalid value for '--tokens'"),
    "no such base": ("generate hi --base ./nowhere", "cannot load the base './nowhere'"),
    "no such corpus": ("train x --base {base} --corpus nowhere.txt --tokens 4096", "nowhere.txt"),
    "no such kind": ("train x --base {base} --corpus {corpus} --tokens 4096 --kind Lora2", "no kind is called 'Lora2'"),
    "no such option of the kind": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --set wdth=4",
        "neither NeutralResidues nor train knows 'wdth'",
    ),
    "an option of its own": ("train x --base {base} --corpus {corpus} --tokens 4096 --set length=4", "--help"),
    "--set without a value": ("train x --base {base} --corpus {corpus} --tokens 4096 --set width", "KEY=VALUE"),
    "a wrong value": ("train x --base {base} --corpus {corpus} --tokens 4096 --set width=wide", "width"),
    "a reserved name": ("train off --base {base} --corpus {corpus} --tokens 4096", "reserved"),
    "nothing to resume with": (
        "train x --base {base} --corpus {corpus} --tokens 9 --out {base}/x",
        "do not make one step",
    ),
    "no prompt": ("generate --base {base}", "there is no prompt"),
    "no such file": ("generate --base {base} --file nowhere.txt", "No such file or directory: nowhere.txt"),
    "not plugged": ("generate hi --base {base} --modules law", "no module 'law' is plugged"),
    "no such module": ("generate hi --base {base} --plug ./nowhere", "./nowhere"),
    "no module's folder": ("inspect {root}", "card.json"),
    "no such text": ("evaluate --base {base} --on a=nowhere.jsonl", "nowhere.jsonl"),
    "a name twice": ("evaluate --base {base} --on a={corpus} --on a={corpus}", "two texts are called 'a'"),
    "sampling without temperature": ("generate hi --base {base} --top-p 0.5", "temperature"),
    "no such device": ("generate hi --base {base} --device nonsense", "device 'nonsense' cannot be used"),
    "a picture of no known form": ("demo --base {base} --picture x.gif", "a picture is a .png or .svg file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_mistake_is_told_in_one_sentence(mistake: str, as_json: bool, call: Any, place: Any) -> None:
    line, expected = MISTAKES[mistake]
    root = str(Path(place.base).parent)
    words = [word.format(base=place.base, corpus=place.corpus, root=root) for word in line.split()]
    if mistake == "a flag without its value" and as_json:
        words = [*words[:-1], "--json", words[-1]]
    elif as_json:
        words.append("--json")
    said = call(*words)
    assert said.code == 2, said.err
    assert expected in said.err
    assert "Traceback" not in said.err
    assert said.err.splitlines()[0].startswith("error: ")
    if as_json:
        assert said.json["exit"] == 2
        assert expected in said.json["error"]
    else:
        assert said.out == ""


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/x"), 2, "Permission denied: /x"),
        (typer.Abort(), 130, "interrupted"),
    ],
)
def test_other_ends(error: BaseException, code: int, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise error

    assert guarded(run, []) == code
    assert expected in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_a_mistake() -> None:
    def run() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(run, [])


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_check_exits_one(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def ask() -> None:
        with answering(as_json) as answer:
            print("chatter of a library")
            answer.give({"loss": float("nan"), "at": Path("x")}, lambda out: out.print("a table"), "it is not so")

    with pytest.raises(typer.Exit) as end:
        ask()
    assert end.value.exit_code == 1
    said = capsys.readouterr()
    assert "it is not so" in said.err
    assert said.out == ('{"loss": null, "at": "x"}\n' if as_json else "chatter of a library\na table\n")


def test_verbs_are_found_by_their_files() -> None:
    assert application.verbs()[:6] == ["demo", "train", "generate", "chat", "evaluate", "inspect"]


def test_python_dash_m_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "addenda", "nonsense"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No such command 'nonsense'")
    assert done.stderr.count("\n") == 1
