"""Selections belong to the thread or task that set them: two on one base do not see each other's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.plugging import Base
from conformance.kinds import MAIN
from conformance.world import Subject, batch, close, generate, logits, subject_of, throwaway

ROUNDS = 6


def alone(subject: Subject, chosen: dict[str, float]) -> Tensor:
    with subject.base.using(chosen):
        return logits(subject.model, *batch())


def check_threads(subject: Subject) -> None:
    """Threads with selections of their own, in step at every forward, each get what they get alone."""
    chosen: list[dict[str, float]] = [{"m": 1.0}, {"n": 1.0}, {}, {"m": 0.5, "n": 1.0}]
    expected = [alone(subject, one) for one in chosen]
    barrier = threading.Barrier(len(chosen), timeout=60)
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(ROUNDS):
            way = subject.base.using(chosen[number])
            if turn % 3 == 1:
                way = subject.base.rows([chosen[number]] * 4)
            if turn % 3 == 2:
                subject.base.use(chosen[number])
                way = contextvars.copy_context()  # type: ignore[assignment]  # nothing to enter: the default is used
            barrier.wait()
            if turn % 3 == 2:
                found = logits(subject.model, *batch())
            else:
                with way:
                    barrier.wait()
                    found = logits(subject.model, *batch())
            if turn % 3 == 2:
                barrier.wait()
            if float((found - expected[number]).abs().max()) > subject.tolerance(expected[number]):
                wrong.append(f"thread {number} in turn {turn}")
            barrier.wait()

    with ThreadPoolExecutor(len(chosen)) as pool:
        for future in [pool.submit(work, number) for number in range(len(chosen))]:
            future.result(timeout=120)
    assert not wrong, wrong
    assert torch.equal(logits(subject.model, *batch()), subject.bare()), "a thread's default reached this one"


@pytest.mark.parametrize("case", MAIN)
def test_threads(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        check_threads(subject)


@pytest.mark.parametrize("case", ["registers", "neutral-context", "lora"])
def test_threads_generate(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        chosen: list[dict[str, float]] = [{"m": 1.0}, {"n": 1.0}, {}]

        def run(one: dict[str, float]) -> Tensor:
            with subject.base.using(one):
                ids, mask = batch()
                settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
                return subject.model.generate(ids, attention_mask=mask, **settings)

        expected = [run(one) for one in chosen]
        with ThreadPoolExecutor(len(chosen)) as pool:
            for _ in range(3):
                for found, wanted in zip(pool.map(run, chosen), expected, strict=True):
                    assert torch.equal(found, wanted)


def check_tasks(subject: Subject) -> None:
    """Tasks that give way between choosing and computing each keep what they chose."""
    chosen: list[dict[str, float]] = [{"m": 1.0}, {"n": 1.0}, {}, {"m": 0.5}]
    expected = [alone(subject, one) for one in chosen]

    async def block(number: int) -> Tensor:
        with subject.base.using(chosen[number]):
            for _ in range(3):
                await asyncio.sleep(0)
            return logits(subject.model, *batch())

    async def default(number: int) -> Tensor:
        subject.base.use(chosen[number])
        for _ in range(3):
            await asyncio.sleep(0)
        return logits(subject.model, *batch())

    async def together() -> list[Tensor]:
        numbers = range(len(chosen))
        return [*await asyncio.gather(*map(block, numbers)), *await asyncio.gather(*map(default, numbers))]

    for found, wanted in zip(asyncio.run(together()), expected * 2, strict=True):
        close(found, wanted)
    assert torch.equal(logits(subject.model, *batch()), subject.bare())


@pytest.mark.parametrize("case", ["registers", "neutral-context", "lora"])
def test_tasks(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        check_tasks(subject)


def test_unplugging_under_another_threads_selection_is_a_clear_error() -> None:
    """A selection that names what is gone never falls back to the base in silence."""
    from addenda import AddendaError

    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        chosen, gone = threading.Event(), threading.Event()
        caught: list[BaseException] = []

        def work() -> None:
            with subject.base.using("m"):
                chosen.set()
                gone.wait(60)
                try:
                    logits(subject.model, *batch())
                except AddendaError as error:
                    caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        chosen.wait(60)
        subject.base.unplug("m")
        subject.plug("n")  # the base is still hosting something
        gone.set()
        thread.join(60)
        assert caught, "a module that was unplugged fell out in silence"
        assert "'m'" in str(caught[0])


# -- mutants --------------------------------------------------------------------------------------------------------


def one_selection_for_all(patch: pytest.MonkeyPatch) -> None:
    """The selection is an attribute of the base."""
    kept: dict[int, Any] = {}
    original = Base._select

    def select(self: Base, chosen: Any) -> None:
        kept[id(self)] = chosen
        original(self, chosen)

    patch.setattr(Base, "_select", select)
    patch.setattr(Base, "selection", property(lambda self: kept.get(id(self), self._selected.get())))


@pytest.mark.parametrize("check", [check_threads, check_tasks])
def test_a_mutant_is_caught(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = throwaway("llama", "lora")
    subject.plug("n", seed=1)
    one_selection_for_all(monkeypatch)
    with pytest.raises(AssertionError):
        check(subject)


def test_generation_goes_on_after_the_block_of_another_base() -> None:
    """Two bases in one thread: each has a selection of its own."""
    with subject_of("llama", "lora") as one, subject_of("gpt2", "registers") as two:
        one.plug("m")
        two.plug("m")
        expected = [alone(one, {"m": 1.0}), alone(two, {"m": 1.0})]
        with one.base.using("m"):
            assert torch.equal(logits(two.model, *batch()), two.bare())
            with two.base.using("m"):
                assert torch.equal(logits(one.model, *batch()), expected[0])
                assert torch.equal(logits(two.model, *batch()), expected[1])
            with two.base.off():
                assert torch.equal(logits(one.model, *batch()), expected[0])
        assert generate(one.model, *batch()).sequences.shape == (4, 17)
