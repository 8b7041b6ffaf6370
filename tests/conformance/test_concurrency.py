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

from addenda import AddendaError
from addenda.core.errors import UnsupportedError
from addenda.plug.base import Base
from conformance.kinds import MAIN
from conformance.world import Subject, batch, close, generate, logits, subject_of, throwaway
from pico import pico_tokenizer

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


# -- threads that were never told anything ----------------------------------------------------------------------------


def in_a_thread(run: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call in a thread of its own returns or raises."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run, *args, **kwargs).result(timeout=120)


def ways(base: Base) -> dict[str, Any]:
    return {
        "block": lambda: base.using("m"),
        "rows": lambda: base.rows([{"m": 1.0}, {}, {}, {}]),
        "index": lambda: base.rows(torch.tensor([0, 1, 0, 1]), table=[{}, {"m": 1.0}]),
    }


@pytest.mark.parametrize("way", ["block", "rows", "index"])
@pytest.mark.parametrize("case", ["lora", "registers", "neutral-context"])
def test_a_thread_that_chose_nothing_is_told(case: str, way: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        ids, mask = batch()
        for _ in range(2):
            with ways(subject.base)[way]():
                for run in (subject.model, subject.model.generate):
                    with pytest.raises(AddendaError, match="nothing was chosen in this thread"):
                        in_a_thread(run, ids, attention_mask=mask)
                with (
                    subject.base.off(),
                    subject.base.using("m"),
                    pytest.raises(AddendaError, match="nothing was chosen"),
                ):
                    in_a_thread(subject.model, ids)

                def choosing() -> Tensor:
                    with subject.base.off():
                        return logits(subject.model, ids, mask)

                assert torch.equal(in_a_thread(choosing), subject.bare())
                inside = logits(subject.model, ids, mask)
                assert torch.equal(
                    in_a_thread(contextvars.copy_context().run, logits, subject.model, ids, mask), inside
                )
            assert torch.equal(in_a_thread(logits, subject.model, ids, mask), subject.bare()), "no block is open"


def test_a_default_of_another_thread_is_told_too() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        ids, mask = batch()
        subject.base.use("m")
        with pytest.raises(AddendaError, match="nothing was chosen in this thread"):
            in_a_thread(subject.model, ids)
        with subject.base.off(), pytest.raises(AddendaError, match="nothing was chosen in this thread"):
            in_a_thread(subject.model, ids)
        subject.base.use()
        assert torch.equal(in_a_thread(logits, subject.model, ids, mask), subject.bare())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_generating_for_a_streamer_ends_in_an_error_and_not_in_bare_text() -> None:
    """The way that transformers documents: a thread generates, and who started it reads."""
    from transformers import TextIteratorStreamer

    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        ids, mask = batch()
        settings: dict[str, Any] = {"attention_mask": mask[:1], "max_new_tokens": 4, "do_sample": False}
        with subject.base.using("m"):
            wanted = pico_tokenizer().decode(subject.model.generate(ids[:1], **settings)[0, ids.shape[1] :])

            def read(target: Any, *before: Any) -> str:
                streamer = TextIteratorStreamer(pico_tokenizer(), skip_prompt=True, timeout=60)
                given = settings | {"inputs": ids[:1], "streamer": streamer}
                thread = threading.Thread(target=target, args=before, kwargs=given)
                thread.start()
                said = "".join(streamer)  # ends, where the thread failed too
                thread.join(60)
                return said

            assert read(subject.model.generate) == ""
            assert read(contextvars.copy_context().run, subject.model.generate) == wanted


@pytest.mark.parametrize("name", ["generate_batch", "init_continuous_batching"])
def test_continuous_batching_is_refused_where_a_module_is_on(name: str) -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        with (
            subject.base.using("m"),
            pytest.raises(UnsupportedError, match=f"{name} runs the model in a thread of its own"),
        ):
            getattr(subject.model, name)([[1, 2, 3]])
        with subject.base.rows([{"m": 1.0}]), pytest.raises(UnsupportedError, match="base.off"):
            getattr(subject.model, name)([[1, 2, 3]])
        with subject.base.off():
            assert subject.model.generate_batch([]) == {}


def test_tasks_and_pools_that_chose_nothing_are_told() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        on = alone(subject, {"m": 1.0})

        async def together() -> None:
            with subject.base.using("m"):
                found = await asyncio.to_thread(logits, subject.model, *batch())  # takes the context along
                assert torch.equal(found, on)
                with pytest.raises(AddendaError, match="nothing was chosen"):
                    await asyncio.get_running_loop().run_in_executor(None, logits, subject.model, *batch())

        asyncio.run(together())


def test_helpers_that_only_prepare_are_not_told() -> None:
    """Workers of pipelines and data loaders, and the threads of a backward pass."""
    from torch.utils.data import DataLoader
    from transformers import pipeline

    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "num_workers": 1}
        speak = pipeline("text-generation", model=subject.model, tokenizer=pico_tokenizer())
        with subject.base.off():
            before = speak(["the heart", "the liver"], **settings)
        with subject.base.using("m"):
            after = speak(["the heart", "the liver"], **settings)
            for rows in DataLoader(batch()[0], batch_size=2, num_workers=1):  # type: ignore[arg-type]
                subject.model(rows)
        assert before != after
        module = subject.base.modules["m"]
        with subject.base.using("m"):
            loss = subject.model(batch()[0], labels=batch()[0]).loss
            in_a_thread(loss.backward)
        assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("fullgraph", [pytest.param(True, marks=pytest.mark.slow), False])
def test_compiled_models_tell_a_thread_that_chose_nothing(fullgraph: bool) -> None:
    torch._dynamo.reset()
    subject = throwaway("llama", "lora", num_hidden_layers=2)
    compiled = torch.compile(subject.model, backend="eager", fullgraph=fullgraph)
    ids, _ = batch()

    def run() -> Tensor:
        with torch.no_grad():
            return compiled(input_ids=ids, use_cache=False).logits

    bare = run()
    with subject.base.using("m"):
        on = run()
        assert not torch.equal(on, bare)
        with pytest.raises(Exception, match="nothing was chosen in this thread"):
            in_a_thread(run)
        assert torch.equal(run(), on)
        assert torch.equal(in_a_thread(contextvars.copy_context().run, run), on)
    assert torch.equal(in_a_thread(run), bare)
    assert torch.equal(run(), bare)
    torch._dynamo.reset()


def nobody_is_astray(patch: pytest.MonkeyPatch) -> None:
    """A thread that chose nothing gets the bare base."""
    patch.setattr(Base, "astray", property(lambda _: False))


def test_bare_text_in_silence_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = throwaway("llama", "lora")
    nobody_is_astray(monkeypatch)
    with subject.base.using("m"):
        assert torch.equal(in_a_thread(logits, subject.model, *batch()), subject.bare())
