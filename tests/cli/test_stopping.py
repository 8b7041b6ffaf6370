"""Ctrl-C in the middle of a long verb, its output in a file: an answer at once, an end soon after, and what is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import GENERAL, MEDICAL

HERE = Path(__file__).parent
#: seconds that a machine under load may take for what a quiet one does in two
SOON = 30.0


@dataclass(frozen=True)
class Ended:
    """How a command ended that was sent a signal: its code, what it said before and after, seconds to the answer and the end."""

    code: int
    before: str
    after: str
    answered: float
    seconds: float


#: the words of each command, and what it says where the signal is to come
CASES: dict[str, tuple[str, str]] = {
    "train": (
        "train m --corpus {corpus} --replay {replay} --tokens 4000000 --length 32 --batch-rows 4 --set width=8 --out {out}/train",
        r"m: [1-9]\d*/[\d,]+ steps .* left, [\d,]+ tokens/s, training loss \d",
    ),
    "validation": (
        "train m --corpus {corpus} --replay {replay} --tokens 2048 --length 32 --batch-rows 4 --set width=8 "
        "--learning long={long} --validation-tokens 4000000 --validate-every 8 --out {out}/validation",
        r"m: 8/16 steps .*; validating: [1-9]",
    ),
    "memorize": (
        "memorize m --text {long} --window 64 --chunk 32 --kind lora --set rank=2 --out {out}/memorize",
        r"m: [1-9]\d*/[\d,]+ chunks .*loss \d",
    ),
    "evaluate": ("evaluate --on long={long}", r"evaluating: [1-9].*; long, modules off: [1-9]"),
    "compare": (
        "compare --corpus {corpus} --learning {held} --forgetting {long} --held-tokens 4000000 --methods lora --tokens 100000 "
        "--length 32 --batch-rows 4 --seeds 1 --rates 1 --allow-overlap --out {out}/compare",
        r"comparing: .*; base: [1-9]",
    ),
}


@pytest.fixture(scope="module")
def ended(place: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """All commands, run side by side, each sent SIGINT where it is in the middle of its work."""
    folder = tmp_path_factory.mktemp("stopped")
    lines = (json.dumps({"text": f"{MEDICAL * 3}{GENERAL * 3}{n}"}) for n in range(2000))
    (folder / "long.jsonl").write_text("\n".join(lines))
    places = {"corpus": place.corpus, "replay": place.replay, "held": place.held_out}
    words: list[str] = []
    for command, _ in CASES.values():
        filled = command.format(**places, long=folder / "long.jsonl", out=folder)
        words += [*filled.split(), "--base", place.base, "--"]
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "stopped.py"), str(folder), *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    runs = {name: Sent(folder, number, there) for number, (name, (_, there)) in enumerate(CASES.items())}
    end = time.monotonic() + 240
    try:
        while sum(run.step() for run in runs.values()) < len(runs):
            if time.monotonic() > end or process.poll() is not None:
                pytest.fail("\n".join(f"{name}: {run.said[-2000:]}" for name, run in runs.items()))
            time.sleep(0.02)
    finally:
        for file in folder.glob("*.pid"):
            if not file.with_suffix(".code").exists():
                os.kill(int(file.read_text()), signal.SIGKILL)
        process.kill()
        process.communicate()
    return {name: run.ended() for name, run in runs.items()}


class Sent:
    """A command that is sent a signal once it is in the middle of its work."""

    def __init__(self, folder: Path, number: int, there: str) -> None:
        self.err, self.code, self.pid = (folder / f"{number}.{end}" for end in ("err", "code", "pid"))
        self.there = there
        self.said = self.before = ""
        self.began = self.answered = self.seconds = 0.0

    def step(self) -> bool:
        """Look what it says by now; whether it has ended."""
        over = self.code.exists()
        self.said = self.err.read_text() if self.err.exists() else ""
        now = time.monotonic()
        if not self.began and re.search(self.there, self.said):
            self.before, self.began = self.said, now
            os.kill(int(self.pid.read_text()), signal.SIGINT)
        elif self.began and not self.answered and "SIGINT: stopping" in self.said:
            self.answered = now - self.began
        if over and not self.seconds:
            self.seconds = now - self.began
        return over

    def ended(self) -> Ended:
        """How it ended."""
        after = self.said[len(self.before) :]
        return Ended(int(self.code.read_text()), self.before, after, self.answered, self.seconds)


@pytest.mark.parametrize("verb", CASES)
def test_ctrl_c_is_answered_in_words_and_obeyed(ended: dict[str, Ended], verb: str) -> None:
    found = ended[verb]
    told = {
        "train": r"SIGINT: stopping after step [\d,]+ of \d+; a checkpoint is kept in .*train\.run; press Ctrl-C again",
        "validation": r"SIGINT: stopping after this batch \(validating\); step 8 of 16 is kept; a checkpoint is kept in ",
        "memorize": r"SIGINT: stopping after chunk \d+ of \d+; a checkpoint is kept in ",
        "evaluate": r"SIGINT: stopping after this batch; nothing was saved",
        "compare": r"SIGINT: stopping after this batch; what is done is kept in .*, and the same command goes on there",
    }[verb]
    assert found.code == 130, found.after
    assert re.search(told, found.after), found.after
    assert found.answered < SOON
    assert found.seconds < SOON
    assert found.after.splitlines()[-1].startswith("error: stopped by SIGINT")
    if verb in ("train", "validation", "memorize"):
        assert "the same command with --resume goes on from" in found.after
        assert "with --finish it keeps the module as it is now" in found.after


@pytest.mark.parametrize("verb", CASES)
def test_a_log_file_has_the_plan_first_and_then_lines(ended: dict[str, Ended], verb: str) -> None:
    lines = ended[verb].before.splitlines()
    first = {
        "train": "training m: 0/",
        "validation": "training m: 0/",
        "memorize": "memorizing m: 0/",
        "evaluate": "evaluating",
    }
    own = [line for line in lines if "Loading weights" not in line and line]  # transformers has a bar of its own
    assert own[0].startswith(first.get(verb, "comparing")), lines
    assert any(re.search(r"about .* at [\d,]+ tokens|time: .* at [\d,]+ tokens/s", line) for line in lines), lines
    assert sum(" gone" in line for line in lines) >= 2


def test_what_was_stopped_is_resumed_or_finished(call: Any, place: Any, ended: dict[str, Ended]) -> None:
    (kept,) = re.findall(r"goes on from (.*validation\.run)", ended["validation"].after)
    out = Path(kept).with_suffix("")
    words = CASES["validation"][0].format(
        corpus=place.corpus, replay=place.replay, held="", long=out.parent / "long.jsonl", out=out.parent
    )
    # the very same command: its validation would take long, so it is finished without the rest
    said = call(*words.split(), "--base", place.base, "--finish", "--seed", "5")
    assert said.code == 2
    assert "seed: 0 then, 5 now" in said.err
    (kept,) = re.findall(r"goes on from (.*train\.run)", ended["train"].after)
    out = Path(kept).with_suffix("")
    words = CASES["train"][0].format(corpus=place.corpus, replay=place.replay, held="", long="", out=out.parent)
    said = call(*words.split(), "--base", place.base, "--finish", "--json")
    assert said.code == 0, said.err
    (step,) = re.findall(r"stopped by SIGINT after step (\d+) of", ended["train"].after)
    assert said.json["steps"] == int(step)
    assert said.json["planned_steps"] == 31250
    card = json.loads((out / "card.json").read_text())
    assert card["training"][0]["settings"]["ended"] == f"finished early, at step {step} of 31250"
    assert {file.name for file in Path(kept).iterdir()} - {"log.jsonl"} == {"finished.json"}
