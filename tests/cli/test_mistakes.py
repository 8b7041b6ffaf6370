"""A user's mistake ends in exit code 2 and one sentence: on standard error, and as JSON where that was asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import addenda
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
    "a number of tokens that is none": (
        "train x --corpus {corpus} --tokens 20kk",
        "Invalid value for '--tokens': '20kk' is no number of tokens; write 20000, 20_000, 20k or 1.5M",
    ),
    "half a token": ("train x --corpus {corpus} --tokens 1.5", "'1.5' is 1.5 tokens, and a number of tokens is whole"),
    "no token": ("evaluate --on a={corpus} --tokens 0", "Invalid value for '--tokens': 0 is too few; at least 1"),
    "nearly a corpus": (
        "train x --base {base} --corpus {root}/medcal.txt --tokens 4k",
        "did you mean '{root}/medical.txt'?",
    ),
    "nearly a folder of texts": (
        "evaluate --base {base} --on a={root}x/held.jsonl",
        "did you mean '{root}/held.jsonl'?",
    ),
    "nearly a text to memorize": (
        "memorize x --base {base} --text {root}/medical.text",
        "did you mean '{root}/medical.txt'?",
    ),
    "nearly a file of prompts": (
        "generate --base {base} --file {root}/generl.txt",
        "did you mean '{root}/general.txt'?",
    ),
    "nearly a file to watch": (
        "inspect {trained} --base {base} --file {root}/Generl.txt",
        "did you mean '{root}/general.txt'?",
    ),
    "nearly a file of facts": ("evaluate --base {base} --facts {root}/hold.jsonl", "did you mean '{root}/held.jsonl'?"),
    "nearly a file of edits": ("evaluate --base {base} --edits {root}/hold.jsonl", "did you mean '{root}/held.jsonl'?"),
    "nearly a module": ("generate hi --base {base} --plug {trained}d", "did you mean '{trained}'?"),
    "nearly a module to inspect": ("inspect {trained}d", "did you mean '{trained}'?"),
    "nearly a module to delete": ("delete {trained}d --yes", "did you mean '{trained}'?"),
    "nearly a module to publish": ("publish {trained}d me/med --yes", "did you mean '{trained}'?"),
    "nearly a folder to list": ("list {root}/rons", "did you mean '{root}/runs'?"),
    "an empty corpus": ("train x --base {base} --corpus {empty} --tokens 9", "the corpus 'empty.txt' is empty"),
    "an empty text": ("memorize x --base {base} --text {empty}", "the corpus 'empty.txt' is empty"),
    "a corpus of empty records": (
        "train x --base {base} --corpus {blank} --tokens 9",
        "the corpus 'blank.jsonl' is empty",
    ),
    "a base to delete": ("delete {base} --yes", "is no module's folder"),
    "texts to delete": ("delete {root} --yes", "is no module's folder"),
    "no one to ask": ("delete {trained}", "There is no terminal to ask on: --yes"),
    "no such corpus": ("train x --base {base} --corpus nowhere.txt --tokens 4096", "nowhere.txt"),
    "no such kind": ("train x --base {base} --corpus {corpus} --tokens 4096 --kind Lora2", "no kind is called 'Lora2'"),
    "half the name of a kind": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --kind neutral",
        "did you mean 'NeutralResidues'?",
    ),
    "a corpus given twice": (
        "train x --base {base} --corpus {corpus} --corpus {corpus} --tokens 4096",
        "--corpus was given more than once, and takes one value",
    ),
    "methods given twice": ("compare --methods lora --methods=rag", "--methods was given more than once"),
    "methods without commas": (
        "compare --corpus a --learning b --forgetting c --methods lora rag",
        "--methods takes several with commas between them",
    ),
    "no such option of the kind": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --set wdth=4",
        "neither NeutralResidues nor train knows 'wdth'",
    ),
    "an option of its own": ("train x --base {base} --corpus {corpus} --tokens 4096 --set length=4", "--help"),
    "--set without a value": ("train x --base {base} --corpus {corpus} --tokens 4096 --set width", "KEY=VALUE"),
    "a wrong value": ("train x --base {base} --corpus {corpus} --tokens 4096 --set width=wide", "width"),
    "a reserved name": ("train off --base {base} --corpus {corpus} --tokens 4096", "reserved"),
    "no such text to memorize": ("memorize x --base {base} --text nowhere.txt", "nowhere.txt"),
    "a memory's option of its own": ("memorize x --base {base} --text {corpus} --set chunk=4", "memorize --help"),
    "a window too small": ("memorize x --base {base} --text {corpus} --window 8", "no room for context"),
    "a kind that cannot start here": (
        "memorize x --base {base} --text {corpus} --set rank=97",
        "more than the FFN's 96 units",
    ),
    "nothing to merge": ("merge --base {base} --out {root}/merged", "at least one plugged module"),
    "numbers of no GGUF": ("merge --base {base} --out {root}/merged --gguf-type f16", "is for --format gguf"),
    "a GGUF of what is left": (
        "merge --base {base} --out {root}/merged --subtract x --format gguf",
        "--subtract writes a checkpoint",
    ),
    "a merge into a full folder": ("merge --base {base} --plug {trained} --out {root}", "is left as it is"),
    "a merge of what cannot be": ("merge --base {base} --plug {trained} --out {root}/merged", "cannot be folded"),
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
    "a device that computes nothing": ("generate hi --base {base} --device meta", "device 'meta' cannot be used"),
    "a device without its package": ("generate hi --base {base} --device hpu", "device 'hpu' cannot be used"),
    "a rate below zero": ("train x --base {base} --corpus {corpus} --tokens 4096 --lr -1", "lr is a positive number"),
    "a share of no replay": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --replay-share 0.5",
        "a replay share of 0.5 has no replay",
    ),
    "validations on nothing": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --validate-every 1",
        "validate_every=1 has nothing to validate on",
    ),
    "a gate's weight without a gate": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --kind lora --set gate_weight=5",
        "gate_weight=5.0 is for a gate that 'x' (LoRA) lacks",
    ),
    "a teacher's context without a teacher": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --set context=64",
        "context=64 is for the objective 'distill'",
    ),
    "a rate that is none": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --lr nan",
        "lr is a positive number",
    ),
    "a weight without end": (
        "train x --base {base} --corpus {corpus} --replay {replay} --tokens 4096 --local inf",
        "setting 'local' must be not negative, and finite",
    ),
    "a seed below zero": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --seed -1",
        "a seed is a whole number",
    ),
    "a seed beyond all": ("generate hi --base {base} --seed 99999999999999999999", "a seed is a whole number from 0"),
    "a seed of the demo": ("demo --quick --base {base} --seed -1", "a seed is a whole number from 0"),
    "a damaged base": ("generate hi --base {damaged}", "SafetensorError"),
    "a base of other shapes": ("generate hi --base {misshapen}", "other shapes than config.json wants in 9 tensors"),
    "a base without a tokenizer": ("generate hi --base {mute}", "cannot load the tokenizer of the base"),
    "a place that is a file": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --length 32 --out {corpus}",
        "is a file",
    ),
    "a module larger than the memory": (
        "train x --base {base} --corpus {corpus} --tokens 4096 --set width=1e12",
        "not enough memory",
    ),
    "a picture of no known form": ("demo --base {base} --picture x.gif", "a picture is a .png or .svg file"),
    "no place for what is combined": ("combine {trained} {trained} --base {base} --out {corpus}", "is a file"),
    "one module twice": (
        "combine {trained} {trained} --base {base} --out {root}/both",
        "a module 'med' is plugged already; unplug it first, or take another name (NAME=FOLDER)",
    ),
    "what moved, and of nothing": (
        "evaluate --base {base} --drift {trained}",
        "none acts: name those that act (--plug",
    ),
    "a text for a base": ("inspect {base} --text hi", "--text shows where a module acts"),
    "a file for the base": ("inspect --base {base} --file {corpus}", "is a base: name the module's folder"),
    "two texts to watch": (
        "inspect {trained} --base {base} --text hi --file {corpus}",
        "--text and --file are two texts",
    ),
}


@pytest.fixture(scope="module")
def broken(place: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Copies of the pico base, each with something wrong."""
    root = tmp_path_factory.mktemp("broken")
    made = {name: Path(shutil.copytree(place.base, root / name)) for name in ("damaged", "misshapen", "mute")}
    (made["damaged"] / "model.safetensors").write_bytes(b"\xff" * 400)
    config = made["misshapen"] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 112}))
    for file in made["mute"].glob("tokenizer*"):
        file.unlink()
    made["empty"], made["blank"] = root / "empty.txt", root / "blank.jsonl"
    made["empty"].write_text("\n \n")
    made["blank"].write_text('{"text": ""}\n{"text": " "}\n')
    return {name: str(path) for name, path in made.items()}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_mistake_is_told_in_one_sentence(
    mistake: str, as_json: bool, call: Any, place: Any, trained: Path, broken: dict[str, str]
) -> None:
    line, expected = MISTAKES[mistake]
    paths = {
        "base": place.base,
        "corpus": place.corpus,
        "replay": place.replay,
        "root": Path(place.base).parent,
        "trained": trained,
    } | broken
    words = [word.format(**paths) for word in line.split()]
    if mistake == "a flag without its value" and as_json:
        words = [*words[:-1], "--json", words[-1]]
    elif as_json:
        words.append("--json")
    said = call(*words)
    expected = expected.format(**paths)
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
        (typer.Exit(130), 130, "interrupted"),
        (ModuleNotFoundError("No module named 'gradio'", name="gradio.blocks"), 2, "package 'gradio', which is not"),
        (MemoryError(), 2, "not enough memory; smaller batches or rows take less"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), 2, "Tried to allocate 2 GiB"),
    ],
)
def test_other_ends(error: BaseException, code: int, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        if isinstance(error, typer.Exit):  # click's main hands its code on
            return error.exit_code
        raise error

    assert guarded(run, ["--json"]) == code
    said = capsys.readouterr()
    assert expected in said.err
    assert json.loads(said.out)["exit"] == code


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), RuntimeError("sizes do not match"), ModuleNotFoundError("no", name="addenda.nowhere")],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_is_not_dressed_up_as_a_mistake(error: Exception) -> None:
    def run() -> None:
        raise error

    with pytest.raises(type(error)):
        guarded(run, [])


def test_an_interrupt_is_told(call: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupting(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(addenda, "load_base", interrupting)
    said = call("generate", "hi", "--base", place.base, "--json")
    assert (said.code, said.json) == (130, {"error": "interrupted", "exit": 130})
    assert said.err == "error: interrupted\n"


def test_a_place_that_is_taken_is_found_before_the_first_step(call: Any, place: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    words = (
        f"train x --base {place.base} --corpus {place.corpus} --tokens 4096 --length 32 --out {tmp_path}/taken".split()
    )
    said = call(*words)
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert "holds what is not a module's (thesis.txt)" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


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
    first = [
        "demo",
        "teach",
        "study",
        "train",
        "calibrate",
        "memorize",
        "edit",
        "generate",
        "chat",
        "facts",
        "evaluate",
        "compare",
        "route",
        "combine",
        "merge",
        "compress",
        "forget",
        "inspect",
    ]
    assert application.verbs()[: len(first)] == first


def test_python_dash_m_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "addenda", "nonsense"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No such command 'nonsense'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--memory-kind says what a memory is, and there is none: give its folder with --remember"),
        (("--remember", "{trained}"), "'{trained}' is a NeutralResidues, not a HEMA"),
    ],
)
def test_a_memory_is_of_the_kind_that_was_asked_for(
    words: tuple[str, ...], expected: str, call: Any, place: Any, trained: Path
) -> None:
    before = {file.name: file.read_bytes() for file in trained.iterdir()}
    given = [word.format(trained=trained) for word in words]
    said = call("chat", "--base", place.base, "--memory-kind", "HEMA", *given, stdin="hello\n")
    assert said.code == 2
    assert said.err.startswith(f"error: {expected.format(trained=trained)}")
    assert said.err.count("\n") == 1
    assert {file.name: file.read_bytes() for file in trained.iterdir()} == before
