"""Selections that do not fit are refused, also where nothing is selected, and never become the bare base in silence."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import SelectionError
from conformance.world import differences, generate, logits, perturbed, structure
from pico import pico, pico_tokenizer, random_ids

IDS = random_ids(3, 6)


@pytest.fixture(params=[True, False], ids=["plugged", "nothing plugged"])
def base(request: pytest.FixtureRequest) -> addenda.Base:
    made = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    if request.param:
        perturbed(made, "m", "lora")
    return made


EMPTY: list[Any] = [
    lambda base, count: base.rows([{}] * count),
    lambda base, count: base.rows(torch.zeros(count, dtype=torch.long), table=[{}]),
    lambda base, count: base.rows([dict.fromkeys(base.modules, 0.0)] * count),
]


@pytest.mark.parametrize("rows", EMPTY, ids=["list", "index", "zeros"])
def test_rows_are_counted_where_none_selects_anything(base: addenda.Base, rows: Any) -> None:
    before, bare = structure(base.model), logits(base.model, IDS)
    for count in (1, 2, 4, 6):
        with rows(base, count), pytest.raises(SelectionError, match=f"has {count} rows, the batch 3"):
            logits(base.model, IDS)
    with rows(base, 3):
        assert torch.equal(logits(base.model, IDS), bare)
        assert generate(base.model, IDS, num_beams=2).sequences.shape == (3, 12)
        with base.off():
            logits(base.model, IDS[:1])
        with pytest.raises(SelectionError, match=r"has 3 rows, the batch 4 \(2 prompts"):
            generate(base.model, IDS[:2], num_beams=2)
    assert not differences(structure(base.model), before)


@pytest.mark.parametrize(
    "choose",
    [
        lambda base: base.using(ghost=0.0),
        lambda base: base.use({"ghost": 0.0}),
        lambda base: base.rows([{"ghost": 0.0}]),
        lambda base: base.rows(torch.tensor([0]), table=[{}, {"ghost": 0.0}]),
    ],
)
def test_a_name_that_is_unknown_is_an_error_at_any_weight(base: addenda.Base, choose: Any) -> None:
    with pytest.raises(SelectionError, match="no module 'ghost' is plugged"):
        choose(base)


@pytest.mark.parametrize("wrong", [None, 3, [None], [["m"]], {1: 1.0}, torch.tensor(1), torch.tensor([0]), object()])
def test_what_is_no_selection_is_a_clear_error(base: addenda.Base, wrong: Any) -> None:
    for choose in (base.use, base.using, lambda it: base.rows([it]), lambda it: base.rows(IDS[0, :1] * 0, table=[it])):
        with pytest.raises(SelectionError, match="a selection is a name, some names, or a mapping"):
            choose(wrong)
    assert base.selection.empty


def test_rows_that_are_no_rows_are_a_clear_error(base: addenda.Base) -> None:
    index = torch.tensor([0])
    with pytest.raises(SelectionError, match=r"rows\(index, table"):
        base.rows(index)
    for wrong in (None, 3, "m", {"m": 1.0}, [], {"m"}):
        with pytest.raises(SelectionError, match="rows takes a list"):
            base.rows(wrong)  # type: ignore[arg-type]
    for wrong in (3, "m", {"m": 1.0}):
        with pytest.raises(SelectionError, match="the table is a list"):
            base.rows(index, table=wrong)  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="LongTensor"):
        base.rows([0], table=[{}])


# -- unplugging the last module --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["block", "default", "rows"])
def test_unplugging_the_last_module_is_an_error_where_it_is_selected(by: str) -> None:
    model = pico("llama", num_hidden_layers=2)
    before, bare = structure(model), logits(model, IDS)
    base = addenda.attach(model, pico_tokenizer())
    perturbed(base, "m", "lora")
    chosen, gone = threading.Event(), threading.Event()
    caught: list[str] = []

    def forward() -> None:
        chosen.set()
        gone.wait(60)
        try:
            logits(model, IDS)
        except SelectionError as error:
            caught.append(str(error))

    def work() -> None:
        if by == "default":
            base.use("m")
            forward()
        else:
            with base.using("m") if by == "block" else base.rows([{"m": 1.0}] * 3):
                forward()
            assert torch.equal(logits(model, IDS), bare), "the block is over"

    thread = threading.Thread(target=work)
    thread.start()
    chosen.wait(60)
    base.unplug("m")
    assert torch.equal(logits(model, IDS), bare), "here it is not selected"
    gone.set()
    thread.join(60)
    assert caught, "the thread got the bare base in silence"
    assert "'m' is selected, and was unplugged" in caught[0]
    gc.collect()
    base.off().__enter__()
    assert not differences(structure(model), before), "no selection is left, but hooks are"


def test_a_task_that_inherited_a_selection_is_told() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    perturbed(base, "m", "lora")

    async def child(gone: asyncio.Event) -> None:
        await gone.wait()
        with pytest.raises(SelectionError, match="'m' is selected"):
            logits(base.model, IDS)

    async def parent() -> None:
        gone = asyncio.Event()
        with base.using("m"):
            task = asyncio.create_task(child(gone))
            await asyncio.sleep(0)
            base.unplug("m")
            logits(base.model, IDS)  # it left the selection of this task
        gone.set()
        await task

    asyncio.run(parent())


def test_unplugging_and_detaching_inside_a_block_leave_no_trace() -> None:
    model = pico("llama", num_hidden_layers=2)
    before = structure(model)
    base = addenda.attach(model, pico_tokenizer())
    perturbed(base, "m", "lora")
    base.use("m")
    with base.using("m"), base.rows([{"m": 1.0}] * 3):
        base.unplug("m")
    assert not differences(structure(model), before)
    perturbed(base, "m", "lora")
    base.use("m")
    with base.rows([{"m": 1.0}] * 3):
        base.detach()
        assert not differences(structure(model), before)
    assert not differences(structure(model), before)


def test_generators_that_hold_blocks_may_end_in_any_order() -> None:
    """As streaming servers do: each keeps a block open, and the first that was opened is closed first."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    for name in ("a", "b"):
        base.new(name, addenda.LoRA(rank=2))

    def stream(block: Any) -> Iterator[None]:
        with block:
            yield

    base.use("b")
    for order in itertools.permutations(range(3)):
        streams = [stream(block) for block in (base.using("a"), base.off(), base.using(a=0.5))]
        for one in streams:
            next(one)
        assert base.selection.everyone == {"a": 0.5}
        for number in order:
            streams[number].close()
        assert base.selection.everyone == {"b": 1.0}
    base.use()
    assert not base.astray
    with base.using("a"):
        inner = stream(base.using("b"))
        next(inner)
        with base.off():
            inner.close()
            assert base.selection.empty
        assert base.selection.everyone == {"a": 1.0}
    assert base.selection.empty


def test_a_block_that_is_left_in_another_context_is_not_open_any_more() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("a", addenda.LoRA(rank=2))
    block = base.using("a")
    contextvars.copy_context().run(block.__enter__)
    assert base._anyones
    block.__exit__(None, None, None)
    assert not base._anyones
    assert base.selection.empty


@pytest.mark.parametrize("weight", [10**400, -(10**400), 10**5000, float("inf"), float("nan"), True, "1"], ids=range(7))
def test_a_weight_that_is_no_finite_number_is_refused(weight: Any) -> None:
    made = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    perturbed(made, "m", "lora")
    for choose in (made.use, made.using, lambda chosen: made.rows([chosen])):
        with pytest.raises(SelectionError, match="the weight of 'm' must be a finite number; got "):
            choose({"m": weight})
