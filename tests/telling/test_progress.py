"""How long work is shown: what a line says, that lines come in time, and that nothing is shown where nothing is asked for."""

from __future__ import annotations

import io
import re
import sys
import time
from typing import Any

import pytest

from addenda.telling import progress
from addenda.telling.progress import Count, Progress, about, clocked, megabytes, part, shown, tick


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_what_is_done_how_long_it_took_and_how_long_it_takes() -> None:
    clock = Clock()
    work = Progress("training m", 400, "steps", show=False, clock=clock)
    assert work.told() == "training m: 0/400 steps, 0:00 gone"
    clock.now += 50
    work.update(100, rate="215 tokens/s", note="training loss 2.314")
    assert work.told() == (
        "training m: 100/400 steps (25%), 0:50 gone, about 2:30 left, 215 tokens/s, training loss 2.314"
    )
    with work.part("validating", 18_000):
        work.advance(3_000)
        assert work.told().endswith("; validating: 3,000/18,000 tokens (17%)")
    assert "validating" not in work.told()
    clock.now += 7200
    work.update(400)
    assert work.told().startswith("training m: 400/400 steps (100%), 2:00:50 gone, 215 tokens/s")


def test_what_was_done_before_does_not_count_for_the_pace() -> None:
    clock = Clock()
    work = Progress("reading", 1000, "chunks", show=False, clock=clock)
    work.begin(900)
    clock.now += 10
    work.update(950)
    assert "about 0:10 left, 5 chunks/s" in work.told()


def test_more_than_was_estimated_is_never_more_than_all() -> None:
    count = Count("evaluating", 1000, "tokens", 0.0, done=1024)
    assert count.said() == "evaluating: 1,024/1,024 tokens (100%)"
    assert count.total == 1000


def test_where_the_total_is_not_known_none_is_told() -> None:
    clock = Clock()
    work = Progress("evaluating", show=False, by_ticks=True, clock=clock)
    assert work.told() == "evaluating, 0:00 gone"
    clock.now += 4
    work.advance(1000)
    assert work.told() == "evaluating: 1,000 tokens, 0:04 gone, 250 tokens/s"
    work.advance(19_000)
    assert work.told() == "evaluating: 20,000 tokens, 0:04 gone, 5,000 tokens/s"


def test_lines_come_at_once_in_time_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    with Progress("working", 10, "steps", every=0.05):
        assert out.getvalue() == "working: 0/10 steps, 0:00 gone\n"
        time.sleep(0.4)  # one long batch: nobody calls anything
        assert 3 <= out.getvalue().count("\n") <= 12
        current = shown()
        assert current is not None
        current.update(10)
    assert out.getvalue().splitlines()[-1].startswith("working: 10/10 steps (100%)")
    assert shown() is None
    before = out.getvalue()
    time.sleep(0.15)
    assert out.getvalue() == before  # and none after it
    assert progress.EVERY <= 30


def test_ticks_count_in_the_innermost_part(capsys: pytest.CaptureFixture[str]) -> None:
    tick(5)  # nothing is shown: nothing to count
    with part("nowhere"):
        tick(5)
    with Progress("all", 100, by_ticks=True) as work:
        with part("first", 40):
            tick(30)
            with part("within"):
                tick(10)
            assert (work.parts[-1].task, work.parts[-1].done) == ("first", 30)
        assert work.whole.done == 40
    assert "all: 40/100 tokens (40%)" in capsys.readouterr().err
    with Progress("by hand", 3, "steps") as work:
        tick(1000)
        assert work.whole.done == 0


def test_nothing_is_written_where_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("all", 100, show=False) as work:
        work.say("a line")
        work.update(3)
        assert shown() is None
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("training m", 8, "steps") as work:
        work.say("step 3: a remark [with brackets]")
        work.update(8, rate="99 tokens/s")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "━" in plain
    assert "training m: 8/8 steps (100%)" in plain
    assert "a remark [with brackets]" in plain
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "dumb")
    with Progress("training m", 8, "steps"):
        pass
    assert "━" not in out.getvalue()


@pytest.mark.parametrize(
    ("say", "value", "told"),
    [
        (clocked, 7, "0:07"),
        (clocked, 750, "12:30"),
        (clocked, 7500, "2:05:00"),
        (about, 3, "a few seconds"),
        (about, 41, "40 seconds"),
        (about, 95, "2 minutes"),
        (about, 660, "11 minutes"),
        (about, 9000, "2.5 hours"),
        (megabytes, 618e6, "618 MB"),
        (megabytes, 3.2e9, "3.2 GB"),
        (megabytes, 120_000, "0.1 MB"),
    ],
)
def test_times_and_sizes_in_words(say: Any, value: float, told: str) -> None:
    assert say(value) == told
