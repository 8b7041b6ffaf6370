"""`addenda forget`: a text taken out of a module, a module taken out whole, and every mistake in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from addenda.removing import whole


def words(place: Any, trained: Path, out: Path, *more: str) -> list[str]:
    line = f"""forget {trained} --base {place.base} --forget {place.corpus} --retain {place.replay} --tokens 1024 --length 32
        --batch-rows 2 --measured 64 --out {out}""".split()
    return [*line, *more]


def test_a_text_is_taken_out_and_the_module_before_stays(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    before = (trained / "module.safetensors").read_bytes()
    said = call(*words(place, trained, tmp_path / "m", "--set", "repair=0.5", "--set", "warmup=0"), "--json")
    assert said.code == 0, said.err
    told = said.json
    assert (told["name"], told["method"], told["steps"]) == ("med", "gu", 4)
    assert (told["settings"]["method"]["repair"], told["settings"]["warmup"]) == (0.5, 0)
    assert set(told["forget"]["loss"]) == {"bare", "before", "after"}
    assert told["out"] == str(tmp_path / "m")
    assert "med: NeutralResidues" in said.err
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert [run["objective"] for run in card["training"]] == ["lm", "forget: gu"]
    assert (trained / "module.safetensors").read_bytes() == before
    again = call(*words(place, trained, tmp_path / "m", "--set", "repair=0.5", "--set", "warmup=0", "--resume"))
    assert again.code == 0, again.err
    assert "to go (medical.txt, 64 tokens): loss" in again.out
    assert "next: addenda evaluate --plug" in again.out


def test_a_method_is_chosen_by_name(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    said = call(*words(place, trained, tmp_path / "m", "--method", "gs_lora(alpha=50)", "--lr", "0.01"), "--json")
    assert said.code == 0, said.err
    assert said.json["groups"]
    assert set(said.json["groups"].values()) == {0.0}


def test_a_module_is_taken_out_whole(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "m")
    refused = call("forget", folder, "--whole", "--base", place.base)
    assert refused.code == 2
    assert "There is no terminal to ask on: --yes" in refused.err
    assert folder.exists()
    said = call("forget", folder, "--whole", "--yes", "--base", place.base, "--json")
    assert said.code == 0, said.err
    assert said.json["holds"]
    assert {file["file"] for file in said.json["deleted"]["files"]} >= {"card.json", "module.safetensors"}
    assert not folder.exists()


def test_a_proof_that_fails_exits_one(
    call: Any, place: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trained, tmp_path / "m")
    told = iter(["one", "another"])
    monkeypatch.setattr(whole, "logits_hash", lambda _: next(told))
    said = call("forget", folder, "--whole", "--yes", "--base", place.base)
    assert said.code == 1
    assert "nothing was deleted" in said.err
    assert folder.exists()


WRONG = {
    "nothing said": (
        "forget {trained} --base {base}",
        "--forget, --retain, --out missing); to forget the module whole, say",
    ),
    "no retain": ("forget {trained} --forget {corpus} --out {new}", "(--retain missing)"),
    "both": ("forget {trained} --whole --forget {corpus}", "and --forget would be ignored; leave one out"),
    "an empty text": ("forget {trained} --forget {empty} --retain {corpus} --out {new}", "empty"),
    "the same text": ("forget {trained} --forget {corpus} --retain {corpus} --out {new}", "are the same text"),
    "no such method": (
        "forget {trained} --forget {corpus} --retain {replay} --out {new} --method x",
        "no forgetter is called",
    ),
    "no such option": (
        "forget {trained} --forget {corpus} --retain {replay} --out {new} --set alpha=1",
        "neither gu nor forget knows 'alpha'",
    ),
    "no pair": (
        "forget {trained} --forget {corpus} --retain {replay} --out {new} --set alpha",
        "--set takes KEY=VALUE",
    ),
    "its own option": (
        "forget {trained} --forget {corpus} --retain {replay} --out {new} --set length=3",
        "'length' has an option of its own",
    ),
    "options twice": (
        "forget {trained} --forget {corpus} --retain {replay} --out {new} --method gu(repair=1) --set repair=1",
        "give them in one place",
    ),
    "no module": ("forget {base} --whole --yes", "is no module's folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_in_one_sentence(case: str, call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    line, says = WRONG[case]
    (tmp_path / "empty.txt").write_text("\n")
    names = {"trained": trained, "base": place.base, "corpus": place.corpus, "replay": place.replay}
    line = line.format(**names, new=tmp_path / "new", empty=tmp_path / "empty.txt")
    more = [] if "--base" in line else ["--base", place.base]
    said = call(*line.split(), *more)
    assert said.code == 2
    assert says in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert not (tmp_path / "new").exists()
