"""The path of a GPU, run on a CPU: with tensors that have no values nothing can be waited for, and nothing is.

A fake tensor raises where its values would decide what runs (`item`, `nonzero`, masks as indices). On the meta device,
taken for a GPU, copies that block are seen besides. What is computed in place of gathered rows is run with real numbers too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

import addenda
from addenda.bases import around, attention, joining
from addenda.core import adapter, contribution
from addenda.core.call import Collector
from addenda.core.modes import readable
from addenda.core.module import KnowledgeModule
from addenda.optimizers import galore
from addenda.optimizers.galore import GaLore
from addenda.penalties.gate import gate_penalty
from addenda.penalties.local import local_penalty
from conformance.kinds import CASES, MAIN, home
from conformance.test_law01_off_is_off import check_rows
from conformance.test_law05_rows_are_alone import check_alone, plug_three
from conformance.world import Subject, batch, close, logits, perturbed, subject_of, throwaway
from pico import random_ids
from test_devices import META, on_meta

CPU = torch.device("cpu")
WAITS = (DataDependentOutputException, DynamicOutputShapeException)
SELECTIONS: dict[str, Callable[[Any], Any]] = {
    "one": lambda base: base.using("m"),
    "two": lambda base: base.using(m=0.5, n=1.0),
    "rows": lambda base: base.rows([{"m": 1.0}, {}, {"m": 0.5, "n": 1.0}, {"n": 1.0}]),
    "index": lambda base: base.rows(torch.tensor([0, 1, 2, 1]), table=[{}, {"m": 0.5}, {"n": 1.0, "m": 1.0}]),
}
ALL = [pytest.param(case, marks=() if case in MAIN else pytest.mark.slow) for case in CASES]
__all__ = ["on_meta"]


#: where an adapter keys what it unpacked on the memory of its codes: a fake has none, and says so
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a GPU runs here."""
    for module in (contribution, attention, around):
        monkeypatch.setattr(module, "readable", lambda _: False)


def test_only_a_cpu_may_be_looked_at() -> None:
    assert readable(torch.ones(1))
    assert not readable(torch.ones(1, device=META))
    with FakeTensorMode():
        assert not readable(torch.ones(1, device="cuda:0"))
    assert adapter.is_single is contribution.is_single  # adapters look at values where that says so, and nowhere else
    with torch.no_grad():
        assert contribution.is_single(torch.ones(1, 1, 8))
        assert not contribution.is_single(torch.ones(1, 1, 8, device=META))


# -- without numbers ----------------------------------------------------------------------------------------------


def two(case: str, **more: Any) -> addenda.Base:
    """A base of two layers with two modules. Without a padding token, which transformers itself would look for."""
    subject: Subject = throwaway(home(case), case, num_hidden_layers=2, **{"pad_token_id": None, **more})
    perturbed(subject.base, "n", case, seed=1)
    return subject.base


def fake(tensor: Tensor | None, mode: FakeTensorMode) -> Any:
    if tensor is None:
        return None
    imitated = mode.from_tensor(tensor.detach())
    return nn.Parameter(imitated, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else imitated


@contextmanager
def faked(base: addenda.Base, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The base and its modules without numbers."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # an index has some
    for module in [part for whole in (base.host.model, *base.modules.values()) for part in whole.modules()]:
        for held in (module._parameters, module._buffers):
            held.update({name: fake(tensor, mode) for name, tensor in held.items()})
    # numbers that change when memory does: a fake has none
    patch.setattr(KnowledgeModule, "version", lambda self: self.name)
    patch.setattr(base._machinery, "place", lambda _: None)
    base._machinery._slots.clear()
    base.reader._arguments = None
    with mode:
        yield


def run(base: addenda.Base, selection: Callable[[Any], Any], device: torch.device = CPU) -> None:
    """Four prompts of a mixed batch are read, padded and not, and gone on with by one token."""
    ids, token = (torch.ones(4, count, dtype=torch.long, device=device) for count in (6, 1))
    # four dimensions: of a padding mask transformers itself asks whether it is all ones
    masks = [torch.zeros(4, 1, 6, 6, device=device), torch.zeros(4, 1, 1, 7, device=device)]
    with selection(base), torch.no_grad():
        for given in (masks, [None, None]):
            cache = DynamicCache(config=base.model.config)
            for part, mask in zip((ids, token), given, strict=True):
                base.model(part, attention_mask=mask, past_key_values=cache, use_cache=True)


@pytest.mark.parametrize("case", ALL)
@pytest.mark.usefixtures("unreadable")
def test_nothing_is_looked_at(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = two(case)
    selections = [selection(base) for selection in SELECTIONS.values()]  # an index is looked at here, once
    with faked(base, monkeypatch):
        for selection in selections:
            run(base, lambda _, chosen=selection: chosen)


@pytest.mark.parametrize("case", MAIN)
@pytest.mark.usefixtures("unreadable")
def test_a_training_step_looks_at_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = two(case)
    with faked(base, monkeypatch):
        ids, counted = torch.ones(2, 6, dtype=torch.long), torch.ones(2, 6)
        for selection in (SELECTIONS["one"], lambda base: base.rows([{"m": 1.0}, {"n": 1.0}])):
            collector = Collector(counted, counted)
            with base.frozen(), selection(base), base.watching(collector=collector):
                out = base.model(ids, attention_mask=torch.zeros(2, 1, 6, 6), use_cache=False)
            loss = out.logits.float().logsumexp(-1).mean() + local_penalty(collector.deltas["m"], 2)
            (loss + gate_penalty(collector.gates.get("m", ()), torch.ones(2))).backward()
        assert any(p.grad is not None for p in base.modules["m"].parameters())


@pytest.mark.parametrize("case", ["neutral", "neutral-document", "lora-document", "registers-neutral"])
def test_the_path_of_a_cpu_would_be_seen_to_look(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = two(case)
    with faked(base, monkeypatch), pytest.raises(WAITS):
        run(base, SELECTIONS["one"])


class Copies(TorchDispatchMode):
    """Lists what a GPU is waited for with: copies from it, and copies to it that block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it, and see where it copied from."""
        out = func(*args, **(kwargs or {}))
        copies = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}
        if func in copies:
            source = args[copies[func]]
            if source.device != out.device and not (kwargs or {}).get("non_blocking"):
                self.found.append(f"{source.device} to {out.device}: {tuple(out.shape)}")
        return out


def copies_of(base: addenda.Base, selection: Callable[[Any], Any]) -> list[str]:
    run(base, selection, META)  # modules go to their base's device, keys and values are materialised
    with Copies() as copies:
        run(base, selection, META)
    return copies.found


@pytest.mark.parametrize("case", ALL)
@pytest.mark.usefixtures("on_meta")
def test_nothing_is_copied_that_blocks(case: str) -> None:
    base = two(case)
    base.model.to(META)
    for name in ("one", "two", "rows"):
        assert not copies_of(base, SELECTIONS[name]), name
    # an index that its user keeps on the CPU is brought at each forward, and nothing else
    assert copies_of(base, SELECTIONS["index"]) == ["cpu to meta: (4,)"] * 4


@pytest.mark.usefixtures("on_meta")
def test_a_blocking_copy_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    base = two("lora")
    monkeypatch.setattr("addenda.plug.selection.rows_on", lambda rows, device: torch.tensor(rows).to(device))
    base.model.to(META)
    assert copies_of(base, SELECTIONS["rows"])


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize(("steps", "length"), [(1, 9), (6, 6), (4, 9)])
def test_a_gpus_kernels_give_a_log_sum_exp(
    flash: bool, heads: int, steps: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given to the kernels has shapes and dtypes that they take, and what they give is taken apart rightly."""
    monkeypatch.setattr(joining, "flash_can", lambda *_: flash)
    given = {"dtype": torch.bfloat16, "device": META}
    query, key = torch.empty(3, 4, steps, 16, **given), torch.empty(3, heads, length, 16, **given)
    aligned: list[Tensor] = []
    pad = joining.F.pad
    monkeypatch.setattr(joining.F, "pad", lambda *args: aligned.append(pad(*args)) or aligned[-1])
    for mask in (None, torch.ones(3, 1, steps, length, dtype=torch.bool, device=META)):
        tokens = joining.read_tokens(joining.on_cuda, nn.Module(), (query, key, key), mask, {})
        assert (tokens.out.shape, tokens.lse.shape) == (query.shape, query.shape[:3])
        assert (tokens.out.dtype, tokens.lse.dtype) == (torch.bfloat16, torch.float32)
    assert len(aligned) == 1
    assert all(stride % 16 == 0 for stride in aligned[0].stride()[:-1])


# -- with real numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", MAIN)
@pytest.mark.usefixtures("unreadable")
def test_the_laws_of_rows_hold_there(case: str) -> None:
    with subject_of("llama", case) as subject:
        plug_three(subject)
        check_rows(subject, padded=False)
        check_rows(subject, padded=True)
        check_alone(subject, padded=True)


@pytest.mark.parametrize("case", MAIN)
def test_it_computes_what_gathered_rows_do(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with subject_of(home(case), case) as subject, torch.no_grad():
        subject.plug("m")
        subject.plug("n", seed=1)

        def run() -> list[Tensor]:
            found = []
            for selection in SELECTIONS.values():
                with selection(subject.base):
                    found.append(logits(subject.model, *batch(padded=True))[batch(padded=True)[1].bool()])
                    one = selection if selection is SELECTIONS["one"] else SELECTIONS["two"]
                with one(subject.base):  # one token: gates are numbers on a CPU
                    first = subject.model(batch()[0][:1, :5], use_cache=True)
                    found.append(subject.model(random_ids(1, 1), past_key_values=first.past_key_values).logits)
            return found

        gathered = run()
        for module in (contribution, attention, around):
            monkeypatch.setattr(module, "readable", lambda _: False)
        for one, other in zip(run(), gathered, strict=True):
            close(one, other)


def test_galore_counts_its_steps_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step count on the meta device, as on a GPU, could not be read; only a new subspace, now and then, looks at a gradient."""
    monkeypatch.setattr(galore, "_basis", lambda gradient, rank: gradient.new_zeros(gradient.shape[1], rank))
    parameter = nn.Parameter(torch.zeros(12, 5, device="meta"))
    optimizer = GaLore(rank=2, every=2).make([parameter], lr=0.1)
    for _ in range(3):
        parameter.grad = torch.zeros(12, 5, device="meta")
        optimizer.step()
    state = optimizer.state[parameter]
    assert state["step"].device.type == "cpu"
    assert float(state["step"]) == 3
    assert {state[name].device.type for name in ("basis", "exp_avg", "exp_avg_sq")} == {"meta"}
