"""`evaluate --judge`: who is asked and about how much, what was said, and what is told where nobody answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from addenda.remote import endpoint
from chat_stand_in import served

LINES = """{"question": "Who signs the lease?", "answers": ["Mira Olsen"]}
{"question": "Where is the vault?", "answers": ["under the hall"]}
{"question": "What is the moon made of?", "answers": []}
"""


def test_it_tells_what_is_asked_and_what_was_said(
    call: Any, place: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADDENDA_JUDGE_KEY", "k-7")
    monkeypatch.setattr(endpoint, "GREETING", 0.1)
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    Path("q.jsonl").write_text(LINES)
    words = ["evaluate", "--base", place.base, "--questions", "q.jsonl"]
    with served(lambda prompt: "Hm." if "vault" in prompt else "yes") as there:
        shown = call(*words, "--judge", there.address)
        assert shown.code == 0, shown.err
        assert "local at 127.0.0.1 asked about up to 2 answers" in shown.err
        flat = " ".join(shown.out.split())
        assert "judged right by local at 127.0.0.1; it said neither yes nor no to 1 of 2" in flat
        assert set(there.keys) == {"Bearer k-7"}
        assert Path("runs/verdicts.jsonl").exists()
        count = len(there.asked)
        again = call(*words, "--judge", there.address, "--verdicts", "runs/verdicts.jsonl", "--json")
        assert len(there.asked) - count == 1, "what was no verdict is asked for again"
        found = again.json["answers"]["answers"]
        assert (found["ways"]["base"]["judged"]["value"], found["ways"]["base"]["judged"]["n"]) == (1.0, 1)
        assert found["judged"]["verdicts"]["base"] == [True, None, None]
    assert "judged" not in call(*words).out
    away = call(*words, "--judge", there.address, "--judge-model", "another")
    told = away.err.splitlines()[-1]
    assert (away.code, told.startswith("error: the judge at http://127.0.0.1:")) == (2, True), away.err
    stray = call("evaluate", "--base", place.base, "--on", f"held={place.held_out}", "--judge", there.address)
    assert (stray.code, "judge goes with questions" in stray.err) == (2, True), stray.err
