"""The flags are a promise: this list changes only on purpose. And every verb has help with an example."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from addenda.cli import app, application
from addenda.cli.application import verbs

BASE = ["--base"]
WHERE = ["--dtype", "--device"]
WRITING = ["--max-tokens", "--temperature", "--top-k", "--top-p", "--repetition-penalty", "--seed"]
CHOOSING = ["--modules", "--plug"]
FLAGS: dict[str, list[str]] = {
    "demo": ["--out", "--tokens", "--quick", "--picture", "--seed", *BASE, "--json"],
    "train": [
        "NAME",
        *(
            "--corpus",
            "--tokens",
            "--replay",
            "--replay-share",
            "--kind",
            "--set",
            "--gate",
            "--out",
            "--resume",
            "--finish",
            "--keep-run",
        ),
        *("--learning", "--forgetting", "--lr", "--seed", "--length", "--batch-rows", "--accumulate", "--local"),
        *(
            "--objective",
            "--precision",
            "--gradient-checkpointing",
            "--validate-every",
            "--validation-tokens",
            "--checkpoint-every",
        ),
        *("--alongside", "--tracker", "--licence", "--plug", *BASE, *WHERE, "--json"),
    ],
    "teach": [
        *(
            "FILES",
            "--name",
            "--out",
            "--update",
            "--minutes",
            "--tokens",
            "--questions",
            "--held-out",
            "--teacher",
            "--teacher-model",
            "--judge",
            "--judge-model",
        ),
        *("--ask", "--set", "--resume", "--finish", "--dry-run", "--seed", *BASE, *WHERE, "--json"),
    ],
    "study": [
        *(
            "FILES",
            "--out",
            "--teacher",
            "--teacher-model",
            "--questions",
            "--held-out",
            "--exercises",
            "--ask",
            "--mined-only",
        ),
        *(
            "--gain",
            "--no-gain",
            "--chunk-tokens",
            "--earlier",
            "--resume",
            "--dry-run",
            "--seed",
            *BASE,
            *WHERE,
            "--json",
        ),
    ],
    "generate": [
        "PROMPTS",
        "--file",
        "--side-by-side",
        "--route",
        "--router",
        "--raw",
        "--chat",
        "--system",
        *CHOOSING,
        *BASE,
        *WRITING,
        *WHERE,
        "--json",
    ],
    "route": [
        "PROMPTS",
        *(
            "--file",
            "--plug",
            "--modules",
            "--router",
            "--at-most",
            "--learn",
            "--corpus",
            "--general",
            "--out",
            "--seed",
        ),
        *(*BASE, *WHERE, "--json"),
    ],
    "chat": [
        *CHOOSING,
        *BASE,
        "--system",
        "--remember",
        "--memory-kind",
        "--raw",
        "--plain",
        "--chat",
        *WRITING,
        *WHERE,
    ],
    "memorize": [
        *(
            "NAME",
            "--text",
            "--kind",
            "--set",
            "--gate",
            "--out",
            "--resume",
            "--finish",
            "--keep-run",
            "--window",
            "--chunk",
            "--passes",
            "--lr",
            "--replay",
        ),
        *(
            "--local",
            "--published",
            "--baseline",
            "--no-baseline",
            "--precision",
            "--checkpoint-every",
            "--licence",
            "--seed",
        ),
        "--plug",
        *(*BASE, *WHERE, "--json"),
    ],
    "merge": [
        *(
            "--out",
            "--plug",
            "--modules",
            "--save-dtype",
            "--multiple",
            "--format",
            "--gguf-type",
            "--probe",
            "--approximate",
            "--drop-gate",
            "--tokens",
            "--subtract",
            *BASE,
            *WHERE,
            "--json",
        ),
    ],
    "evaluate": [
        *(
            "--on",
            "--task",
            "--questions",
            "--facts",
            "--snapshot",
            "--edits",
            "--neutrality",
            "--chats",
            "--zero-shot",
        ),
        *("--spectrum", "--drift"),
        *("--length", "--stride", "--tokens", "--batch-tokens", "--limit", "--documents"),
        *("--judge", "--judge-model", "--verdicts"),
        "--save",
        *(*CHOOSING, *BASE),
        *(*WHERE, "--json"),
    ],
    "compare": [
        *("--corpus", "--learning", "--forgetting", "--replay", "--unrelated", "--methods", "--tokens", "--seeds"),
        *(
            "--rates",
            "--held-tokens",
            "--chats",
            "--questions",
            "--judge",
            "--judge-model",
            "--zero-shot",
            "--extra",
            "--length",
            "--batch-rows",
            "--compose",
        ),
        *("--allow-overlap", "--out", "--quick", *BASE, *WHERE, "--json"),
    ],
    "facts": ["OUT", "--people", "--unseen", "--phrasings", "--revise", "--seed", "--json"],
    "list": ["FOLDERS", "--json"],
    "publish": ["FOLDER", "REPOSITORY", "--public", "--revision", "--message", "--yes", "-y", "--json"],
    "delete": ["FOLDER", "--yes", "-y", "--json"],
    "lm-eval": [],
    "methods": ["STAGE", "--json"],
    "forget": [
        *(
            "MODULE",
            "--forget",
            "--retain",
            "--whole",
            "--method",
            "--set",
            "--tokens",
            "--lr",
            "--length",
            "--batch-rows",
        ),
        *(
            "--measured",
            "--out",
            "--resume",
            "--finish",
            "--keep-run",
            "--seed",
            "--yes",
            "-y",
            *BASE,
            *WHERE,
            "--json",
        ),
    ],
    "inspect": ["TARGET", "--text", "--file", "--verbose", "-v", *BASE, *WHERE, "--json"],
}


def flags(command: Any) -> list[str]:
    """Every argument and option of a command, in order."""
    found = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            found.append(parameter.name.upper())
        elif parameter.name != "help":
            found += [*parameter.opts, *parameter.secondary_opts]
    return found


def test_verbs_and_flags_are_frozen() -> None:
    root = get_command(app)
    assert {name: flags(root.commands[name]) for name in FLAGS} == FLAGS
    assert flags(root) == ["--version"]


@pytest.mark.parametrize("verb", verbs())
def test_help_says_what_and_shows_one_example(verb: str) -> None:
    function = getattr(importlib.import_module(f"addenda.cli.{application.file_of(verb)}"), application.file_of(verb))
    text = inspect.getdoc(function) or ""
    assert text.count("Example: `addenda ") == 1
    assert f"`addenda {verb}" in text
    words = text.split("Example: `addenda ")[1].split("`")[0].split()
    if verb == "lm-eval":
        return  # its words are lm-eval's
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= set(flags(get_command(app).commands[verb]))
    for parameter in get_command(app).commands[verb].params:
        assert parameter.help, parameter.name


def test_help_says_where_methods_are_listed_and_names_no_list_of_them(call: Any) -> None:
    told = " ".join(call("train", "--help").out.replace("│", " ").split())
    assert "`addenda methods kind`" in told or "addenda methods kind" in told
    assert "addenda methods gate" in told
    assert "pubmed_train" in told
    assert not any(kind.lower() in told.lower().split() for kind in ("locas_glu", "LocasMLP"))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_little(words: list[str]) -> None:
    code = f"""
import json, sys
from addenda.cli import main
sys.argv = ['addenda', *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {{'torch', 'transformers', 'numpy', 'matplotlib'}} & set(sys.modules)
print(json.dumps([len(sys.modules), sorted(heavy)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    count, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert count < 600  # what importing costs, on any machine; torch alone brings over a thousand


def test_without_a_verb_help_is_shown(call: Any) -> None:
    said = call()
    assert said.code == 0
    assert all(verb in said.out for verb in FLAGS)
