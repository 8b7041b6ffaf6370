"""`addenda combine`: folders with weights in, a folder out, and what parents and result give, told in both ways."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import addenda
from addenda.cli.combine import weighed
from addenda.core.errors import AddendaError


@pytest.fixture
def parents(place: Any, tmp_path: Path) -> Path:
    """A folder with two LoRAs that were trained."""
    base = addenda.load_base(place.base)
    for name, corpus in (("a", place.corpus), ("b", place.replay)):
        base.new(name, addenda.LoRA(rank=2))
        addenda.train(base, name, corpus=corpus, tokens=512, length=32, batch_rows=4, lr=1e-2, log=False)
        base.modules[name].save(tmp_path / name)
    return tmp_path


def test_weights_stand_behind_folders() -> None:
    assert weighed("runs/a") == ("runs/a", 1.0)
    assert weighed("runs/a=0.25") == ("runs/a", 0.25)
    assert weighed("x=runs/a") == ("x=runs/a", 1.0)
    assert weighed("x=runs/a=-2") == ("x=runs/a", -2.0)


def test_combine_saves_one_module_and_tells_what_it_gives(call: Any, place: Any, parents: Path) -> None:
    words = ["combine", f"{parents / 'a'}=0.3", parents / "b", "--method", "ties(density=0.5)", "--base", place.base]
    said = call(*words, "--out", parents / "ab", "--text", f"med={place.held_out}", "--json")
    assert said.code == 0, said.err
    assert said.json["name"] == "ab"
    assert said.json["combined"]["method"] == {"name": "ties", "density": 0.5}
    assert [part["weight"] for part in said.json["combined"]["modules"]] == [0.3, 1.0]
    assert [m["on"] for m in said.json["combined"]["modules"][0]["measures"]] == ["med"]
    assert said.json["measures"][0]["name"] == "learning"
    assert said.json["next"].startswith("addenda generate ")
    card = json.loads((parents / "ab" / "card.json").read_text())
    assert card["config"]["rank"] == 4
    shown = call(*words, "--out", parents / "ab", "--text", f"med={place.held_out}", "--method", "mean")
    assert shown.code == 2  # an option given twice
    shown = call(*words[:3], "--base", place.base, "--out", parents / "ab", "--text", f"med={place.held_out}")
    assert shown.code == 0, shown.err
    told = " ".join(shown.out.split())
    assert "ab: mean of a=0.3, b=1;" in told
    assert "learned of med, nats per token off the base alone: a +" in told
    assert f"saved in {parents / 'ab'}" in told
    assert "mean of a=0.3 + b=1; what they were trained on:" in " ".join(call("inspect", parents / "ab").out.split())


def test_a_single_document_has_no_interval(call: Any, place: Any, parents: Path) -> None:
    words = ["combine", parents / "a", parents / "b", "--base", place.base, "--out", parents / "ab"]
    said = call(*words, "--text", f"med={place.corpus}", "--tokens", "64")
    assert said.code == 0, said.err
    learned = said.out.partition("learned of med")[2].splitlines()[1:4]
    assert [line.split()[0] for line in learned] == ["a", "b", "ab"]
    assert all(len(line.split()) == 2 for line in learned)


def test_without_a_text_the_next_command_measures_it(call: Any, place: Any, parents: Path) -> None:
    said = call("combine", parents / "a", parents / "b", "--base", place.base, "--out", parents / "ab")
    assert said.code == 0, said.err
    then = shlex.split(said.out.partition("next: addenda ")[2])
    ran = call(*then, "--tokens", "64")
    assert ran.code == 0, ran.err


def test_mistakes_are_one_sentence(call: Any, place: Any, parents: Path) -> None:
    words = ["combine", parents / "a", "--base", place.base, "--out", parents / "ab"]
    for more, told in (
        ((), "combine takes two modules or more; got a\n"),
        ((parents / "b", "--method", "sum"), "no combiner is called 'sum'"),
        ((f"{parents / 'b'}=0",), "mean takes positive weights; that of 'b' is 0\n"),
        ((parents / "a",), "a module 'a' is plugged already; unplug it first, or take another name (NAME=FOLDER)"),
        ((parents / "c",), f"'{parents / 'c'}'"),
        ((f"{parents / 'b'}=nan",), "must be a finite number"),
    ):
        said = call(*words[:2], *more, *words[2:])
        assert said.code == 2
        assert told in said.err
        assert said.err.count("\n") == 1
    assert not (parents / "ab").exists()


def test_from_one_start(call: Any, place: Any, parents: Path) -> None:
    said = call(
        "combine", parents / "a", parents / "b", "--start", parents / "a", "--base", place.base,
        "--out", parents / "ab", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert said.json["combined"]["start"] == "a"


def test_a_folder_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    from addenda.cli import options

    (tmp_path / "a").mkdir()
    for given in (str(tmp_path / "a"), f"name={tmp_path / 'a'}"):
        with pytest.raises(AddendaError, match="is the folder of the module"):
            options.check_apart(tmp_path / "a", None, given)
    options.check_apart(tmp_path / "b", str(tmp_path / "a"))
