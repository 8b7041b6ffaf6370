"""What a run tells: the log, the bar, the trackers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

import addenda
from addenda.core.errors import AddendaError
from addenda.writing.run_log import LOG, RunLog


class Kept(GeneralTracker):
    """A tracker of accelerate's that remembers."""

    name = "kept"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.logged: list[tuple[int | None, dict[str, Any]]] = []
        self.finished = False

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def progress(run: Path | None, **options: Any) -> RunLog:
    return RunLog(run, 10, **({"show": False, "tracker": None, "name": "a", "config": {"seed": 3}} | options))


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    first = progress(tmp_path)
    for step in range(1, 8):
        first.note({"step": step, "loss": 1 / step})
    log = tmp_path / LOG
    log.write_text(log.read_text() + '{"step": 8, "lo')  # cut off by a kill
    again = progress(tmp_path)
    again.resume(5)
    again.note({"step": 6, "loss": 0.5})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert again.history == lines


def test_a_tracker_object_is_given_every_number(
    base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any]
) -> None:
    tracker = Kept()
    base.new("a", addenda.NeutralResidues(width=8))
    addenda.train(base, "a", **quick, tracker=tracker, validation={"learning": texts["learning"]}, validate_every=4)
    assert tracker.finished
    assert tracker.config["seed"] == 0
    assert tracker.config["batch_rows"] == 4
    assert [step for step, values in tracker.logged if "a/loss" in values] == list(range(1, 9))
    assert [step for step, values in tracker.logged if "validation/a/learning/value" in values] == [4, 8]


def test_tensorboard(base: addenda.Base, quick: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    base.new("a", addenda.LoRA(rank=2))
    report = addenda.train(base, "a", **quick, tracker="tensorboard", out=tmp_path / "a", run_name="mine")
    events = EventAccumulator(str(tmp_path / "a.run" / "tracking" / "mine"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("a/loss")]
    assert found == [(r["step"], pytest.approx(r["a"]["loss"], rel=1e-6)) for r in report.history]


def test_trackers_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(AddendaError, match=r"tracker 'tensorboard': .*logging_dir.*; give out="):
        progress(None, tracker="tensorboard")
    with pytest.raises(AddendaError, match="tracker 'nothing': Unsupported"):
        progress(tmp_path, tracker="nothing")


def test_the_bar_goes_to_standard_error(
    base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    base.new("a", addenda.LoRA(rank=2))
    addenda.train(base, "a", **quick | {"log": True}, validation={"forgetting": texts["forgetting"]}, validate_every=8)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "8/8" in shown.err
    assert re.search(r"forgetting: forgot [+-]\d", shown.err)
    assert "tokens/s" in " ".join(shown.err.split())
