"""Law 10, compiled models see it: plug, swap, unplug and selection are honoured; a new index compiles nothing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.plug.base import Base
from addenda.plug.machinery import Machinery
from addenda.plug.selection import Selection
from conformance.kinds import CASES, MAIN, spread
from conformance.world import Subject, assert_alive, batch, close, made, perturbed, short, throwaway
from pico import pico

NOTHING = Selection()
TABLE: list[dict[str, float]] = [{}, {"m": 1.0}]


class Graphs:
    """A backend that runs graphs as they are, and counts them and those that hold a module's parameters."""

    def __init__(self) -> None:
        self.inputs: list[list[str]] = []

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.inputs.append([node.name for node in graph.graph.nodes if node.op == "placeholder"])
        return graph.forward

    def __len__(self) -> int:
        return len(self.inputs)

    def hold(self, name: str) -> bool:
        """Whether the newest graph reads parameters of the module `name`."""
        return any(f"_modules_{name}_modules_adapters_" in node for node in self.inputs[-1])


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def forward(compiled: Any, subject: Subject) -> tuple[Tensor, Tensor]:
    """Logits of the compiled model and of the model itself, under the selection of the moment."""
    ids, _ = batch()
    with torch.no_grad():
        return compiled(input_ids=ids, use_cache=False).logits, subject.model(input_ids=ids, use_cache=False).logits


def check_compiled(subject: Subject, *, fullgraph: bool = True) -> Graphs:
    """Everything that may be done to a base is done to a compiled one; each time it says what the model says."""
    base, graphs = subject.base, Graphs()
    bare = made(subject.arch, **short(subject.arch))(batch()[0]).logits.detach()
    compiled = torch.compile(subject.model, backend=graphs, fullgraph=fullgraph)

    def same(changed: bool, rows: Any = slice(None)) -> Tensor:
        found, expected = forward(compiled, subject)
        close(found, expected)
        assert torch.equal(found[rows], bare[rows]) != changed, "the compiled model does not see what is selected"
        return found

    base.unplug("m")
    same(changed=False)
    count = len(graphs)
    assert count >= 1
    perturbed(base, "m", subject.case)  # plugged after compiling
    same(changed=False)
    with base.using("m"):
        first = same(changed=True)
        assert len(graphs) > count, "nothing was compiled anew: the model ran without its graph"
        assert graphs.hold("m"), "no graph contains the module"
    same(changed=False)
    with base.using(m=0.5):
        assert not torch.equal(same(changed=True), first)
    with base.rows(torch.tensor([0, 1, 0, 1]), table=TABLE):
        same(changed=False, rows=[0, 2])
        same(changed=True, rows=[1, 3])
    count = len(graphs)
    for index in ([1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]):
        off = [row for row, entry in enumerate(index) if not entry]
        with base.rows(torch.tensor(index), table=TABLE):
            found = same(changed=any(index))
            assert torch.equal(found[off], bare[off])
    assert len(graphs) == count, "a new index recompiles"
    base.unplug("m")
    same(changed=False)
    perturbed(base, "m", subject.case, seed=1)  # another module under the same name
    with base.using("m"):
        assert not torch.equal(same(changed=True), first), "the compiled model still runs the module that was unplugged"
    return graphs


#: compiling costs seconds each: LoRA on the Llama that the mutants are of; one kind a seam and more among the slow tests; all in
#: `make long`
FEW = (("llama", "lora"),)
SLOW = ("registers", "registers-context", "registers-joint-document", "neutral", "neutral-document", "lora-document", "cartridge",
        "soft-tokens", "locas-glu", "delta-product", "mlp-memory", "ffn-skip")  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "case"),
    [
        *FEW,
        *(
            pytest.param(*one.values, marks=pytest.mark.slow if one.values[1] in SLOW else pytest.mark.long)
            for one in spread(CASES)
            if one.values not in FEW
        ),
    ],
)
def test_compiled_models_see_it(arch: str, case: str) -> None:
    check_compiled(throwaway(arch, case, **short(arch)))


@pytest.mark.parametrize("case", [pytest.param("registers-neutral", marks=pytest.mark.slow), "lora"])
def test_plugged_before_compiling(case: str) -> None:
    subject, graphs = throwaway("llama", case, num_hidden_layers=2), Graphs()
    subject.base.use("m")
    compiled = torch.compile(subject.model, backend=graphs, fullgraph=True)
    found, expected = forward(compiled, subject)
    close(found, expected)
    assert graphs.hold("m")
    subject.base.detach()
    found, _ = forward(compiled, subject)
    assert torch.equal(found, pico("llama", num_hidden_layers=2)(batch()[0]).logits)


@pytest.mark.slow
@pytest.mark.parametrize("case", MAIN)
def test_a_compiled_model_trains_and_generates(case: str) -> None:
    subject, graphs = throwaway("llama", case, num_hidden_layers=2), Graphs()
    ids, mask = batch()
    module = subject.base.modules["m"]
    compiled = torch.compile(subject.model, backend=graphs)
    grads = []
    for model in (subject.model, compiled):
        module.zero_grad(set_to_none=True)
        with subject.base.frozen(), subject.base.using("m"):
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        grads.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        close(grads[1][name], grad, 1e-5 * max(1.0, float(grad.abs().max())))
    with subject.base.using("m"):
        settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "attention_mask": mask}
        expected = subject.model.generate(ids, **settings)
        subject.model.forward = torch.compile(subject.model.forward, backend=graphs)
        assert torch.equal(subject.model.generate(ids, **settings), expected)
        assert torch.equal(subject.model.generate(ids, cache_implementation="static", **settings), expected)


def check_contexts(subject: Subject) -> None:
    """Each context's selection is seen in whichever thread it runs, and leaves nothing there for the next."""
    base, graphs = subject.base, Graphs()
    compiled = torch.compile(subject.model, backend=graphs, fullgraph=True)
    bare = forward(subject.model, subject)[1]

    def run() -> Tensor:
        return forward(compiled, subject)[0]

    def choosing() -> Tensor:
        base.use("m")
        return run()

    with base.using("m"):
        on = run()
        context = contextvars.copy_context()
    assert torch.equal(run(), bare)
    assert not torch.equal(on, bare)
    count = len(graphs)
    with ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(context.run, run).result(), on), "the context's selection is not seen"
        assert torch.equal(pool.submit(run).result(), bare)
        assert torch.equal(pool.submit(contextvars.copy_context().run, choosing).result(), on)
        assert torch.equal(pool.submit(contextvars.copy_context().run, run).result(), bare), "a default leaked"

    async def task(selected: bool) -> None:
        base.use(*(["m"] if selected else []))
        for _ in range(3):
            await asyncio.sleep(0)
            assert torch.equal(run(), on if selected else bare)
            assert torch.equal(await asyncio.to_thread(run), on if selected else bare)

    async def together() -> None:
        await asyncio.gather(task(True), task(False), task(True))

    asyncio.run(together())
    assert len(graphs) <= count + 1, "contexts recompile"  # one for the selection that `use` makes


@pytest.mark.parametrize(
    "case", ["lora", *(pytest.param(one, marks=pytest.mark.slow) for one in ("registers", "neutral-context"))]
)
def test_contexts_are_seen_in_every_thread(case: str) -> None:
    check_contexts(throwaway("llama", case, num_hidden_layers=2))


# -- mutants --------------------------------------------------------------------------------------------------------


def the_graph_is_not_told_of_a_new_selection(patch: pytest.MonkeyPatch) -> None:
    """Compiled code sees no selection."""
    original = Base.selection.fget
    assert original is not None
    patch.setattr(
        Base, "selection", property(lambda self: NOTHING if torch.compiler.is_compiling() else original(self))
    )


def modules_run_outside_of_the_graph(patch: pytest.MonkeyPatch) -> None:
    """Forwards with a module on are left to eager mode."""
    patch.setattr(Machinery, "_call", torch.compiler.disable(Machinery._call, recursive=True))


def every_index_is_a_constant(patch: pytest.MonkeyPatch) -> None:
    """The index is read as Python numbers, so that a new one is a new graph."""
    original = Machinery._call

    def call(self: Machinery, chosen: Any, *rest: Any, **marks: Any) -> Any:
        if chosen.index is not None and sum(chosen.index.tolist()) < 0:
            raise AssertionError
        return original(self, chosen, *rest, **marks)

    patch.setattr(Machinery, "_call", call)


def the_selection_is_mirrored_by_thread(patch: pytest.MonkeyPatch) -> None:
    """Compiled code reads what was last selected in its thread."""
    mirror, original = threading.local(), Base._select

    def select(self: Base, chosen: Any) -> None:
        mirror.selection = chosen
        original(self, chosen)

    def selection(self: Base) -> Any:
        return getattr(mirror, "selection", NOTHING) if torch.compiler.is_compiling() else self._selected.get()

    patch.setattr(Base, "_select", select)
    patch.setattr(Base, "selection", property(selection))


def test_a_mirror_of_the_selection_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = throwaway("llama", "lora", num_hidden_layers=2)
    the_selection_is_mirrored_by_thread(monkeypatch)
    with pytest.raises(AssertionError):
        check_contexts(subject)


@pytest.mark.parametrize(
    "mutant", [the_graph_is_not_told_of_a_new_selection, modules_run_outside_of_the_graph, every_index_is_a_constant]
)
def test_a_mutant_is_caught(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    subject = throwaway("llama", "lora", num_hidden_layers=2)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_compiled(subject, fullgraph=False)


def test_the_subjects_are_worth_compiling() -> None:
    for case in MAIN:
        subject = throwaway("llama", case)
        assert_alive(subject)
