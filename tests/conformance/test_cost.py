"""What plugging costs: the base's weights exist once, a mixed batch runs the base once, a dead gate runs nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import children
from addenda.core.contribution import SPARSE_BELOW
from addenda.kinds.neutral_residues import NeutralAdapter
from conformance.kinds import MAIN
from conformance.world import IDS, Subject, assert_alive, batch, logits, subject_of, throwaway

ROWS: list[dict[str, float]] = [{"m": 1.0}, {"n": 1.0}, {}, {"m": 0.5, "n": 0.5}]


def storages(model: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}


def test_the_bases_weights_exist_once() -> None:
    """Of every tensor that plugging and running left alive, none is a copy of a weight of the base."""
    subject = throwaway("llama", "lora", seed=77)  # weights that no other model of this process has
    for number, case in enumerate(MAIN):
        subject.plug(f"m{number}", case=case)
    subject.plug("n", seed=1)
    for chosen in (subject.base.rows(ROWS), subject.base.using({f"m{n}": 1.0 for n in range(len(MAIN))})):
        with chosen:
            logits(subject.model, *batch())
    own = storages(subject.model)
    weights = {tuple(p.shape): p for p in subject.model.parameters() if p.numel() > 2000}
    gc.collect()
    copies = [
        tuple(thing.shape)
        for thing in gc.get_objects()
        if issubclass(type(thing), Tensor)
        and not isinstance(thing, FakeTensor)  # of a compilation that ran before: it has no memory
        and tuple(thing.shape) in weights
        and thing.untyped_storage().data_ptr() not in own
        and any(p.shape == thing.shape and torch.equal(p, thing.to(p.dtype)) for p in subject.model.parameters())
    ]
    assert not copies, f"copies of the base's weights: {copies}"


def runs_of(model: nn.Module, act: Any) -> dict[str, int]:
    """How many tokens went through each linear layer of the base."""
    counted: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def count(_: nn.Module, args: Any, __: Any, name: str = name) -> None:
                counted[name] = counted.get(name, 0) + args[0].shape[:-1].numel()

            handles.append(module.register_forward_hook(count))
    act()
    for handle in handles:
        handle.remove()
    return counted


def check_runs_once(subject: Subject) -> None:
    """A mixed batch puts each token through each linear layer once, whoever selects what."""

    def run(chosen: Any) -> dict[str, int]:
        def act() -> None:
            with chosen:
                logits(subject.model, *batch())

        return runs_of(subject.model, act)

    bare = run(subject.base.off())
    assert set(bare.values()) == {IDS.numel()}
    ways = {
        "rows": subject.base.rows(ROWS),
        "index": subject.base.rows(torch.tensor([0, 1, 2, 3]), table=ROWS),
        "all": subject.base.using("m", "n"),
    }
    for way, chosen in ways.items():
        run(subject.base.using("m", "n"))  # keys and values are materialised before anything is counted
        assert run(chosen) == bare, f"{way}: the base ran more than once"


@pytest.mark.parametrize("case", MAIN)
def test_a_mixed_batch_runs_the_base_once(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        assert_alive(subject, "m", "n")
        check_runs_once(subject)


def test_running_every_group_apart_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a mixed batch is split into one forward for each selection, results put together."""
    subject = throwaway("llama", "lora")
    subject.plug("n", seed=1)
    original = subject.model.model.forward

    def split(*args: Any, **kwargs: Any) -> Any:
        with subject.base.off():
            original(*args, **kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(subject.model.model, "forward", split)
    with pytest.raises(AssertionError):
        check_runs_once(subject)


def test_tokens_whose_gate_is_dead_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate comes first; the side FFN sees live tokens alone, and nothing at all where none is live."""
    with subject_of("llama", "neutral") as subject:
        module: Any = subject.plug("m")
        seen: list[int] = []
        original = NeutralAdapter.ungated
        monkeypatch.setattr(
            NeutralAdapter, "ungated", lambda self, x: seen.append(x.shape[:-1].numel()) or original(self, x)
        )
        with subject.base.using("m"):
            logits(subject.model, *batch())
        assert len(seen) == 3
        assert all(0 < count <= SPARSE_BELOW * IDS.numel() or count == IDS.numel() for count in seen)
        assert sum(seen) < 3 * IDS.numel()
        for key in module.sites():
            module.adapter(key).threshold.fill_(1e6)
        seen.clear()
        with subject.base.using("m"):
            logits(subject.model, *batch())
        assert not seen


PEAK = """
import resource, sys
import torch
torch.set_num_threads(1)
import addenda
import children
from pico import pico, pico_tokenizer

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small = addenda.attach(pico("llama"), pico_tokenizer())  # everything is imported and warm
kinds = {kinds}
for number, kind in enumerate(kinds):
    small.new(f"m{{number}}", kind, **({{"text": "a text for the start. " * 8}} if kind.starts_from_text else {{}}))
    with small.using(f"m{{number}}"), torch.no_grad():
        small.model(torch.arange(4, 12)[None])
model = pico("llama", hidden_size=768, intermediate_size=3072, num_hidden_layers=4, num_attention_heads=12, head_dim=64)
size = sum(p.numel() * p.itemsize for p in model.parameters()) / 2**20
with torch.no_grad():
    model(torch.arange(4, 12)[None])
before = peak()
base = addenda.attach(model, pico_tokenizer())
for number, kind in enumerate(kinds):
    base.new(f"m{{number}}", kind, **({{"text": "a text for the start. " * 8}} if kind.starts_from_text else {{}}))
own = sum(p.numel() * p.itemsize for m in base.modules.values() for p in m.parameters()) / 2**20
rows = [{{f"m{{number}}": 1.0}} for number in range(len(kinds))] + [{{}}]
with base.rows(rows), torch.no_grad():
    model(torch.arange(4, 12).expand(len(rows), -1))
print(f"{{size}} {{own}} {{peak() - before}}")
"""


@pytest.mark.slow
def test_the_peak_of_memory_has_no_room_for_a_second_base(tmp_path: Path) -> None:
    """On a base of about 130 MB, plugging and running every kind adds what the modules weigh and a little."""
    kinds = """[addenda.Registers(8), addenda.Registers(8, mode="avg", gate="neutral"), addenda.Cartridge(8, init="text"),
        addenda.NeutralResidues(width=16), addenda.NeutralResidues(width=16, gate="context"),
        addenda.ParallelAdapter(width=16), addenda.LoRA(4)]"""
    script = tmp_path / "peak.py"
    script.write_text(PEAK.format(kinds=kinds))
    environment = children.environment(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr
    size, own, added = map(float, done.stdout.split())
    assert size > 100
    assert added < own + 0.35 * size, f"a base of {size:.0f} MB grew by {added:.0f} MB for modules of {own:.0f} MB"
