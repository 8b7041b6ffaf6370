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
