"""A base that is moved takes its modules along. Without an accelerator: moves go to the meta device, which checks too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

import addenda
from addenda.bases.host import Host
from addenda.bases.reading import BaseReader
from addenda.core.call import Call, Collector, Share
from addenda.penalties.gate import gate_penalty
from addenda.penalties.local import local_penalty
from conformance.kinds import MAIN
from conformance.world import perturbed
from pico import pico, pico_tokenizer, random_ids

META = torch.device("meta")


def base_with(case: str) -> addenda.Base:
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    perturbed(base, "m", case)
    perturbed(base, "n", case, seed=1)
    return base


def devices(*modules: torch.nn.Module) -> set[torch.device]:
    return {t.device for module in modules for t in [*module.parameters(), *module.buffers()]}


@pytest.mark.parametrize("case", ["lora", "registers-neutral", "neutral-context"])
def test_a_trainable_takes_the_base_along(case: str) -> None:
    """As transformers' Trainer and accelerate move what they train; a new dtype is the module's alone."""
    base = base_with(case)
    flags = [parameter.requires_grad for parameter in base.model.parameters()]
    trainable = base.trainable("m")
    torch.nn.Sequential(trainable).to(torch.float64)
    assert {p.dtype for p in trainable.parameters()} == {torch.float64}
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    assert devices(base.model, base.modules["m"]) == {torch.device("cpu")}
    torch.nn.Sequential(trainable).to(META)
    assert devices(base.model, base.modules["m"]) == {META}
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    trainable.close()
    assert [parameter.requires_grad for parameter in base.model.parameters()] == flags


@pytest.mark.parametrize("offloaded", [True, False])
def test_a_base_that_accelerate_placed_stays_and_so_does_the_module(
    offloaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pico("llama", num_hidden_layers=2)
    if offloaded:
        cpu_offload(model, torch.device("cpu"))
    else:
        dispatch_model(model, device_map={"": "cpu"}, main_device="cpu", force_hooks=True)
    base = addenda.attach(model, pico_tokenizer())
    module, before = perturbed(base, "m", "lora"), devices(model)
    with base.trainable("m") as trainable:
        moved: list[Any] = []
        monkeypatch.setattr(model, "to", moved.append)
        placed: list[Any] = []
        monkeypatch.setattr(base._machinery, "place", placed.append)
        trainable.to(META)
    assert devices(model) == before
    assert (moved, placed) == ([], [module])


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device taken for a real one; nothing is looked at there, as on a GPU."""
    recorded = BaseReader._layer_arguments

    def moved(self: BaseReader) -> Any:
        here: Any = self.host.model.device
        return tree_map(lambda value: value.to(here) if isinstance(value, Tensor) else value, recorded(self))

    monkeypatch.setattr(BaseReader, "_layer_arguments", moved)
    monkeypatch.setattr(Host, "device_at", lambda self, path: next(self.submodule(path).parameters()).device)


@pytest.mark.parametrize("case", MAIN)
@pytest.mark.usefixtures("on_meta")
def test_modules_follow_a_base_that_is_moved_after_plugging(case: str) -> None:
    """Adapters, slots, gates, rows and an index from before the move."""
    base = base_with(case)
    ids, mask = random_ids(2, 5), torch.zeros(2, 1, 5, 5)
    selections = [
        lambda: base.using("m", n=0.5),
        lambda: base.rows([{"m": 1.0}, {"m": 0.5, "n": 1.0}]),
        lambda: base.rows(torch.tensor([1, 0]), table=[{"n": 1.0}, {"m": 0.5}]),
    ]
    with torch.no_grad():
        with base.using("m", "n"):  # slots are kept from here
            base.model(ids, attention_mask=mask)
        base.model.to(META)
        for selection in selections:
            with selection():
                assert base.model(ids.to(META), attention_mask=mask.to(META)).logits.device == META
    assert devices(*base.modules.values()) == {META}


def test_what_a_call_carries_follows_from_site_to_site() -> None:
    module: Any = base_with("lora").modules["m"]
    shares = [
        Share("m", module, torch.tensor([0]), torch.ones(1, 1, 1)),
        Share("n", module, None, 0.5),
    ]
    call = Call(shares, 2, 3, torch.ones(2, 3), {}, starts=torch.zeros(2, 3, dtype=torch.bool))
    call.gates["m"] = torch.ones(1, 3, 1)
    call.go_to(META)
    weight = call.weight_of(shares[0])
    found = [shares[0].rows, shares[0].weight, call.mask, call.starts, call.gates["m"], weight]
    assert [thing.device for thing in found if isinstance(thing, Tensor)] == [META] * 6
    assert (shares[1].rows, shares[1].weight) == (None, 0.5)


class MetaGivesZeros(TorchFunctionMode):
    """What leaves the meta device is zeros, so that it can stand for one device of several."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Move as told; from meta, zeros of the shape."""
        if func is Tensor.to and args[0].device == META and args[1] == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


def on_two_devices(base: addenda.Base) -> None:
    """The second layer on another device, its input brought there and its output back, as `device_map` has it."""
    layer = base.host.layers[1].to(META)

    def go(_: Any, args: Any, kwargs: Any) -> Any:
        return tree_map(lambda value: value.to(META) if isinstance(value, Tensor) else value, (args, kwargs))

    for part in (layer, layer.self_attn):  # accelerate hooks every part that has parameters
        part.register_forward_pre_hook(go, with_kwargs=True)
    layer.register_forward_hook(lambda _, __, out: tree_map(lambda value: value.to(torch.device("cpu")), out))


@pytest.mark.parametrize("case", MAIN)
@pytest.mark.usefixtures("on_meta")
def test_penalties_are_collected_over_several_devices(case: str) -> None:
    """Each value is averaged where it is; the means, and so the penalties, are where the counts are."""
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    module = perturbed(base, "m", case)
    counted = Collector(torch.ones(2, 5), torch.ones(2, 5))
    on_two_devices(base)
    base._machinery.place(module)
    assert devices(module) == {META, torch.device("cpu")}
    with MetaGivesZeros():
        for selection in (base.using("m"), base.rows([{"m": 1.0}, {"m": 0.5}])):
            with base.frozen(), selection, base.watching(collector=counted):
                base.model(random_ids(2, 5), attention_mask=torch.zeros(2, 1, 5, 5), use_cache=False)
    means = [*counted.deltas.get("m", ()), *counted.gates.get("m", ())]
    assert len(means) >= 2
    assert {mean.device for mean in means} == {torch.device("cpu")}
    penalty = local_penalty(counted.deltas["m"], len(module.adapters)) + gate_penalty(
        counted.gates.get("m", ()), torch.ones(2)
    )
    assert penalty.device == torch.device("cpu")
