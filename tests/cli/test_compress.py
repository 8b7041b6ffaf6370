"""`addenda compress`: a smaller folder beside the large one, its costs told, and mistakes in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDE = ["--method", "ternary(steps=4)"]


def test_a_smaller_folder_is_written_and_its_costs_are_told(
    call: Any, place: Any, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    words = ["compress", trained, *WIDE, "--text", place.held_out, "--base", place.base, "--out", out]
    said = call(*words, "--json", "--at-most", "9")
    assert said.code == 0, said.err
    assert (said.json["module"], said.json["kind"]) == ("med", "TernaryUnits")
    assert said.json["method"] == {"name": "ternary", "steps": 4, "lr": 0.02, "rounds": 8, "seed": 0}
    told = {measure["name"]: measure for measure in said.json["measures"]}
    assert told["size"]["value"] < told["size before compression"]["value"]
    assert told["cost of compression"]["on"] == "held.jsonl"
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    assert (card["name"], card["gate"]["name"]) == ("med", "document")
    assert card["measures"] == said.json["measures"]
    assert card["training"] == json.loads((trained / "card.json").read_text(encoding="utf-8"))["training"]
    shown = call(*words)
    assert shown.code == 0, shown.err
    plain = " ".join(shown.out.split())
    assert "times smaller loss on held.jsonl:" in plain
    assert "nats per token" in plain
    assert "next: addenda generate" in plain
    assert "compressing med" in shown.err


def test_mistakes_are_one_sentence_and_write_nothing(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    words = ["compress", trained, "--text", place.held_out, "--base", place.base]
    for more, expected in (
        (["--method", "ternary", "--out", trained], "is the folder of the module"),
        (["--method", "nl_svd", "--out", out], "cannot be compressed by nl_svd"),
        (["--method", "zip", "--out", out], "no compressor is called 'zip'"),
        (["--method", "ternary(steps=0, rounds=0)", "--out", out, "--at-most", "0"], "more than at_most=0"),
        (["--method", "svd(rank=1)", "--out", out, "--at-most", "-1"], "--at-most"),
    ):
        said = call(*words, *more)
        assert (said.code, said.err.count("error: ")) == (2, 1), said.err
        assert expected in said.err
        assert not out.exists()
