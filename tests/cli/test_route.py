"""`addenda route`, its `--learn`, and `generate --route` on a pico base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

ON, OFF = "the patients were given insulin", "children sang along the lane"


@pytest.fixture
def module(call: Any, place: Any, trained: Path, tmp_path: Path) -> Path:
    """A trained module's folder with keys in it."""
    folder = tmp_path / "med"
    shutil.copytree(trained, folder)
    said = call("route", "--learn", folder, "--corpus", place.corpus, "--general", place.replay, "--base", place.base)
    assert said.code == 0, said.err
    assert "keys of 'med' for nearest, learned from" in said.out
    assert f"saved in {folder}" in said.out
    assert "prompts, " in said.err
    return folder


def test_prompts_are_given_to_the_module_or_to_none(call: Any, place: Any, module: Path) -> None:
    said = call("route", ON, OFF, "--plug", module, "--base", place.base)
    assert said.code == 0, said.err
    heads, first, second = (line.split() for line in said.out.splitlines())
    assert heads == ["prompt", "module", "distance", "threshold"]
    assert (first[-3], second[-5:-2]) == ("med", ["none", "(not", "med)"])
    assert float(first[-2]) < float(first[-1]) == float(second[-1]) < float(second[-2])
    told = call("route", ON, OFF, "--plug", module, "--base", place.base, "--json").json
    assert [row["modules"] for row in told["prompts"]] == [{"med": 1.0}, {}]
    assert told["router"] == "nearest"
    assert told["prompts"][0]["distances"]["med"] < told["thresholds"]["med"]
    everything = call("route", ON, OFF, "--plug", module, "--base", place.base, "--at-most", "1", "--json").json
    assert all(row["modules"] for row in everything["prompts"])
    assert everything["thresholds"] == {"med": None}


def test_learn_says_what_it_found_and_the_next_command_runs(
    call: Any, place: Any, trained: Path, tmp_path: Path
) -> None:
    import shlex

    before = {file.name: file.read_bytes() for file in trained.iterdir()}
    words = ["--learn", trained, "--corpus", place.corpus, "--general", place.replay, "--base", place.base]
    said = call("route", *words, "--router", "wise", "--out", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    assert (said.json["module"], said.json["router"], said.json["saved"]) == ("med", "wise", str(tmp_path / "out"))
    assert {file.name: file.read_bytes() for file in trained.iterdir()} == before
    after = call(*shlex.split(said.json["next"])[1:])
    assert after.code == 0, after.err


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a place where nobody may write is asked of Linux")
def test_learn_looks_where_it_will_save_before_it_reads(call: Any, place: Any, trained: Path) -> None:
    said = call(
        "route", "--learn", trained, "--corpus", "nowhere.txt", "--base", "nowhere", "--out", "/proc/new/module"
    )
    assert said.code == 2
    assert said.err.startswith("error: cannot write '/proc/new/module': ")


def test_generate_answers_each_prompt_with_what_the_router_chose(call: Any, place: Any, module: Path) -> None:
    words = ["generate", ON, OFF, "--base", place.base, "--max-tokens", "4", "--raw"]
    said = call(*words, "--plug", module, "--route", "--json")
    assert said.code == 0, said.err
    rows = said.json["prompts"]
    assert [row["route"]["modules"] for row in rows] == [{"med": 1.0}, {}]
    assert [[one["by"] for one in row["continuations"]] for row in rows] == [["med"], ["base"]]
    plain = [call(*words, *more, "--json").json["prompts"] for more in (["--plug", module], [])]
    assert rows[0]["continuations"] == plain[0][0]["continuations"]
    assert rows[1]["continuations"] == plain[1][1]["continuations"]
    shown = call(*words, "--plug", module, "--route").out
    assert "routed to med: distance" in shown
    assert "routed to no module: of the nearest, med," in shown
    both = call(*words, "--plug", module, "--route", "--side-by-side", "--json").json["prompts"]
    assert [[one["by"] for one in row["continuations"]] for row in both] == [["base", "med"], ["base"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("route", 'there is no prompt; write e.g. addenda route "The patients were" --plug runs/pubmed'),
        ("route hello", "there is no module to choose among; give their folders with --plug"),
        (
            "route hello --plug {trained}",
            "module 'med' has no keys of the router nearest; learn them with addenda route",
        ),
        ("route hello --corpus x", "--corpus and --out are for --learn FOLDER"),
        ("route --learn {trained}", "--learn needs --corpus"),
        ("route hello --learn {trained} --corpus x", "prompts are routed afterwards"),
        ("route --learn nowhere/m --corpus x", "'nowhere/m' is no folder to save in: give --out FOLDER"),
        ("route hello --plug {trained} --at-most 2", "at_most is a share of general prompts above 0, up to 1; got 2.0"),
        ("route hello --plug {trained} --router nearst", "no router is called 'nearst'; there are nearest, wise; did"),
        ("generate hello --route", "--route chooses among modules, and there are none"),
        ("generate hello --router wise", "--router is for --route"),
    ],
)
def test_mistakes_are_one_sentence(call: Any, place: Any, trained: Path, words: str, message: str) -> None:
    said = call(*words.format(trained=trained).split(), "--base", place.base)
    assert said.code == 2
    assert message in " ".join(said.err.split())
