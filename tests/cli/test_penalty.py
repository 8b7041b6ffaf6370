"""`addenda train --set penalty=...`: a second subject into a plugged module, in the words of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def words(place: Any, out: Path, module: Path, *more: str) -> list[str]:
    line = (
        f"train med --plug {module} --base {place.base} --corpus {place.replay} --tokens 512 --length 32 --batch-rows 4"
    )
    return [*line.split(), "--set", "log=false", "--out", str(out), *more]


def test_a_second_subject_goes_into_a_plugged_module(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    penalty = ["--set", "penalty=ewc(weight=5, rows=2)+osft", "--set", f"earlier={place.held_out}", "--json"]
    said = call(*words(place, out, trained, *penalty))
    assert said.code == 0, said.err
    assert [each["name"] for each in said.json["settings"]["penalty"]] == ["ewc", "osft"]
    card = json.loads((out / "card.json").read_text())
    assert [run["settings"]["penalty"] is None for run in card["training"]] == [True, False]
    assert card["training"][1]["settings"]["kept"].keys() == {"ewc", "osft"}
    assert (out / "side.safetensors").exists()


def test_mistakes_are_one_sentence(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    for penalty, told in {
        "ewc": "kept no Fisher",
        "ewcc": "no penalty is called 'ewcc'",
        "osft(rank=2)": "osft",
        "ilora": "give --replay and a --replay-share",
    }.items():
        said = call(*words(place, tmp_path / "no", trained, "--set", f"penalty={penalty}"))
        assert said.code == 2, (penalty, said.err)
        assert told in " ".join(said.err.split()), said.err
        assert "Traceback" not in said.err
    assert "give --set earlier=" in " ".join(
        call(*words(place, tmp_path / "no", trained, "--set", "penalty=ewc")).err.split()
    )
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / "no.run").exists()
