"""The first Ctrl-C is answered at once and stops work between two batches; blocks in one another know of each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from addenda.plug.scoring import score
from addenda.telling.interrupts import Interrupts, Stopped, check
from addenda.telling.progress import tick


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_is_answered_at_once_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with Interrupts(lambda: f"stopping after step {steps}"):
            interrupt()
            told = capsys.readouterr().err
            assert told == "SIGINT: stopping after step 3; press Ctrl-C again to stop at once\n"
            tick(7)

    steps = 3
    with pytest.raises(Stopped, match="stopped by SIGINT") as e:
        work()
    assert e.value.signal == "SIGINT"
    check()  # outside there is nothing to stop


def test_held_work_is_finished_first() -> None:
    done: list[str] = []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupt()
            with interrupts.held():
                check()
                done.append("held")
            check()
            done.append("after")

    with pytest.raises(Stopped):
        work()
    assert done == ["held"]


def test_what_the_outer_block_saw_stops_the_inner_one() -> None:
    def work() -> None:
        with Interrupts():
            interrupt()
            with Interrupts("stopping the inner work"):
                check()

    with pytest.raises(Stopped):
        work()


def test_what_the_inner_block_saw_stops_the_outer_one(capsys: pytest.CaptureFixture[str]) -> None:
    reached: list[str] = []

    def work() -> None:
        with Interrupts("outer"):
            with Interrupts("inner"):
                interrupt()
            reached.append("after the inner block")
            check()

    with pytest.raises(Stopped):
        work()
    assert reached
    assert capsys.readouterr().err.count("SIGINT") == 1  # answered once


def test_where_processes_work_together_none_stops_by_itself() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interrupts(raises=False) as interrupts:
            interrupt()
            check()
            assert interrupts.seen == "SIGINT"
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_scoring_stops_between_two_batches(make_scored: Callable[[], object]) -> None:
    with pytest.raises(Stopped):
        make_scored()


@pytest.fixture
def make_scored() -> Callable[[], object]:
    import addenda
    from pico import pico, pico_tokenizer

    base = addenda.attach(pico("llama"), pico_tokenizer())
    passes: list[int] = []

    def work() -> object:
        def once(*_: object) -> None:
            passes.append(1)
            if len(passes) == 5:
                interrupt()

        hook = base.model.model.register_forward_pre_hook(once)
        try:
            with Interrupts():
                return score(base, ["some words to score. " * 50], length=32, batch_tokens=64)
        finally:
            hook.remove()
            assert len(passes) == 5  # the batch that it came in was finished, and no other begun

    return work


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_stops_between_two_batches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def work() -> None:
        with Interrupts("stopping after this"):
            os.kill(os.getpid(), number)
            check()

    with pytest.raises(Stopped, match=f"stopped by {name}") as e:
        work()
    assert e.value.signal == name
    assert capsys.readouterr().err.startswith(f"{name}: stopping after this")
    assert signal.getsignal(number) is before


def test_who_is_to_outlive_the_terminal_does() -> None:
    """As `nohup` asks: a hangup that was ignored before stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    def work() -> None:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            check()

    monkeypatch.setattr("sys.stderr", Gone())
    with pytest.raises(Stopped):
        work()
