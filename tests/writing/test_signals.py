"""Signals end a run after the step it is in; that they do is tested with resuming."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

import addenda
from addenda.core.errors import TrainingError
from addenda.writing.signals import Interrupts, TrainingStopped
from addenda.writing.step import Stepper


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        with Interrupts() as interrupts:
            assert interrupts.seen is None
            os.kill(os.getpid(), number)
            assert interrupts.seen == number.name
            raise TrainingStopped("as asked", number.name)

    with pytest.raises(TrainingStopped):
        work()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_stopped_nothing_is_given_back(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, frame: heard.append(number))
    try:
        with Interrupts():
            os.kill(os.getpid(), number)
            assert not heard
        assert heard == [number]
        with Interrupts():
            pass
        assert heard == [number]
    finally:
        signal.signal(number, before)


def test_a_second_interrupt_stops_at_once() -> None:
    def work() -> None:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            raise TrainingStopped("as asked", "SIGINT")

    with pytest.raises(TrainingStopped):
        work()


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with Interrupts() as interrupts:
            seen.append(interrupts.seen)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_out_a_run_stops_and_says_that_nothing_was_written(
    base: addenda.Base, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base.new("a", addenda.LoRA(rank=2))
    original = Stepper.take

    def take(self: Stepper, step: int, passes: Any) -> Any:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, step, passes)

    monkeypatch.setattr(Stepper, "take", take)
    with pytest.raises(
        TrainingStopped, match=r"stopped by SIGTERM after step 3 of 8; without out= nothing was written"
    ) as e:
        addenda.train(base, "a", **quick)
    assert e.value.signal == "SIGTERM"
    assert isinstance(e.value, TrainingError)
    assert base.selection.empty
