"""Law 9, only the module learns: no gradient in the base, and checkpointing changes neither loss nor gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.bases import hooks
from addenda.core.call import RUNTIME, Call, Collector
from addenda.core.contracts import ChoosingAdapter
from addenda.core.errors import AddendaError
from addenda.plug.trainable import Trainable
from conformance.kinds import CASES, MAIN, pairs
from conformance.world import Subject, assert_alive, batch, logits, throwaway
from pico import random_ids

Grads = dict[str, Tensor]


@contextmanager
def checkpointed(model: Any, *, reentrant: bool = False) -> Iterator[None]:
    """Gradient checkpointing for a block."""
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()
        for layer in model.modules():
            layer.__dict__.pop("_gradient_checkpointing_func", None)


def step(
    subject: Subject, *, local: bool = False, rows: bool = False, alongside: bool = False
) -> tuple[Tensor, Grads, Any]:
    """One training step's loss and gradients; backward runs after the selecting block has ended."""
    base, model = subject.base, subject.model
    ids, mask = batch(padded=True)
    labels = torch.where(mask.bool(), ids, -100)
    collector = Collector(mask.float() * torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None]) if local else None
    module = base.modules["m"]
    module.zero_grad(set_to_none=True)
    model.train()
    with base.frozen():
        one: dict[str, float] = {"m": 1.0, "n": 0.5} if alongside else {"m": 1.0}
        chosen = base.rows([one, {}, {"m": 0.5}, one]) if rows else base.using(one)
        with chosen, base.watching(collector=collector):
            loss = model(ids, attention_mask=mask, labels=labels, use_cache=False).loss
            if collector is not None:
                for values in collector.deltas.values():
                    loss = loss + torch.stack(values).sum()
                for values in collector.gates.values():
                    loss = loss + 0.1 * torch.stack(values).sum()
        with base.using("n") if "n" in base.modules else base.off():  # whatever is selected by now
            loss.backward()
    model.eval()
    touched = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert not touched, f"parameters of the base have a gradient: {touched[:3]}"
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return loss.detach(), grads, collector


def check_learning(subject: Subject) -> None:
    """The module has gradients, the base none; with and without checkpointing everything is equal."""
    for options in ({}, {"local": True}, {"local": True, "rows": True, "alongside": True}):
        plain = step(subject, **options)
        assert sum(int((grad != 0).sum()) for grad in plain[1].values()) > 0, "the module has no gradient"
        with checkpointed(subject.model):
            again = step(subject, **options)
        assert torch.equal(plain[0], again[0]), f"{options}: checkpointing changes the loss"
        assert plain[1].keys() == again[1].keys()
        for name, grad in plain[1].items():
            far = float((grad - again[1][name]).abs().max())
            assert far <= 1e-6 * float(grad.abs().max()), f"{options}: checkpointing changes the gradient of {name}"
        if options.get("local"):
            check_collected(subject, plain[2], again[2], alive=not options.get("alongside"))


def check_collected(subject: Subject, plain: Collector, again: Collector, alive: bool) -> None:
    """One value for each site of each module, the same with and without recomputation."""
    assert plain.deltas.keys() == again.deltas.keys()
    for name, values in plain.deltas.items():
        module = subject.base.modules[name]
        sites = sum(not isinstance(module.adapter(key), ChoosingAdapter) for key in module.sites())
        assert len(values) == sites, f"{name}: {len(values)} values were collected at {sites} sites"
        assert torch.equal(torch.stack(values), torch.stack(again.deltas[name])), "recomputing collects otherwise"
        assert not alive or float(torch.stack(values).detach().sum()) > 0
    assert {n: len(v) for n, v in plain.gates.items()} == {n: len(v) for n, v in again.gates.items()}
    gates = {name: subject.base.modules[name].gate for name in plain.deltas}
    expected = {name: 1 for name, gate in gates.items() if gate is not None and gate.taught}
    assert {n: len(v) for n, v in plain.gates.items() if n in expected} == expected


@pytest.mark.parametrize(("arch", "case"), pairs())
def test_only_the_module_learns(arch: str, case: str) -> None:
    subject = throwaway(arch, case)  # checkpointing leaves hooks of transformers in a model
    subject.plug("n", case="lora" if subject.case != "lora" else "registers")
    assert_alive(subject, "m")
    check_learning(subject)


@pytest.mark.parametrize("case", MAIN)
def test_every_parameter_has_a_gradient(case: str) -> None:
    """Over a batch on which a module is live, nothing of it is left out."""
    subject = throwaway("llama", case)
    _, grads, _ = step(subject)
    dead = [
        name for name, p in subject.base.modules["m"].named_parameters() if name not in grads or not grads[name].any()
    ]
    assert not dead, f"without a gradient: {dead}"


@pytest.mark.parametrize("case", MAIN)
def test_a_local_loss_may_be_kept_within_its_layer(case: str) -> None:
    """The same values are collected, and the base has no graph: what the last site's value teaches is at that site alone."""
    subject = throwaway("llama", case)
    base, (ids, mask) = subject.base, batch()
    module = base.modules["m"]
    free, within = (Collector(mask.float(), within=one) for one in (False, True))
    with base.frozen(), base.using("m"):
        for collector in (free, within):
            with base.watching(collector=collector):
                out = subject.model(ids, attention_mask=mask, use_cache=False).logits
        assert not out.requires_grad
    assert torch.equal(torch.stack(free.deltas["m"]), torch.stack(within.deltas["m"]))
    within.deltas["m"][-1].backward()
    *_, last = module.sites()
    taught = [name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()]
    assert taught
    if any(getattr(adapter, "carries", False) for adapter in module.adapters.values()):
        return  # what a module itself carries from layer to layer is its own
    elsewhere = [name for name in taught if name.startswith("adapters.") and last.replace(".", "/") not in name]
    assert not elsewhere, f"taught at {last}: {elsewhere}"


@pytest.mark.parametrize("case", [case for case in MAIN if CASES[case].gate])
def test_a_batch_without_a_live_token_can_be_trained_on(case: str) -> None:
    """All gates shut: the loss is the base's, every gradient is there and zero."""
    subject = throwaway("llama", case)
    module: Any = subject.base.modules["m"]
    with torch.no_grad():
        for name, tensor in module.tensors().items():
            if name.endswith("threshold"):
                tensor.fill_(1e6)
    with subject.base.using("m"):
        assert torch.equal(logits(subject.model, *batch()), subject.bare())
    for context in (checkpointed(subject.model), checkpointed(subject.model, reentrant=False)):
        with context:
            _, grads, _ = step(subject)
            assert all(not grad.any() for grad in grads.values())
    _, grads, _ = step(subject)
    left_out = [name for name, _ in module.named_parameters() if name not in grads]
    assert not left_out, f"DDP would wait for {left_out}"


@pytest.mark.parametrize("case", MAIN)
def test_training_through_trainable_changes_the_module_alone(case: str) -> None:
    subject = throwaway("llama", case)
    base, ids = subject.base, random_ids(4, 12, seed=9)
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in subject.model.parameters()]
    base.use()
    with base.trainable("m") as trainable:
        assert isinstance(trainable, Trainable)
        assert [id(p) for p in trainable.parameters()] == [id(p) for p in base.modules["m"].parameters()]
        assert trainable.state_dict().keys() == base.modules["m"].state_dict().keys()
        assert trainable.config is subject.model.config
        optimizer = torch.optim.AdamW(trainable.parameters(), lr=1e-2)
        losses = []
        for _ in range(12):
            loss = trainable(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert not any(parameter.requires_grad for parameter in subject.model.parameters())
    assert losses[-1] < losses[0] - 0.01, losses
    assert [parameter.requires_grad for parameter in subject.model.parameters()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.model.state_dict().items())
    assert torch.equal(logits(subject.model, *batch()), subject.bare())
    with base.using("m"):
        assert not torch.equal(logits(subject.model, *batch()), subject.bare())


@pytest.mark.parametrize("case", MAIN)
def test_reentrant_checkpointing_gives_the_same_or_is_refused(case: str) -> None:
    """What crosses layers outside of the hidden states would lose its gradient in silence: refused by name."""
    subject = throwaway("llama", case)
    subject.model.enable_input_require_grads()
    module = subject.base.modules["m"]
    crossing = module.gate is not None or any(getattr(a, "carries", False) for a in module.adapters.values())
    plain = step(subject)
    with checkpointed(subject.model, reentrant=True):
        if crossing:
            with pytest.raises(AddendaError, match="use_reentrant=False"):
                step(subject)
        else:
            again = step(subject)
            assert plain[1].keys() == again[1].keys()
            for name, grad in plain[1].items():
                assert torch.allclose(grad, again[1][name], rtol=1e-5, atol=1e-7), name
        with pytest.raises(AddendaError, match="use_reentrant=False"):
            step(subject, local=True)
    assert RUNTIME.call is None


# -- mutants --------------------------------------------------------------------------------------------------------


def selection_read_at_recompute(patch: pytest.MonkeyPatch) -> None:
    """Recomputation uses whatever is selected when backward runs."""
    patch.setattr("addenda.plug.machinery.keep_call_in_checkpoints", lambda layers: None)


def recomputing_collects_again(patch: pytest.MonkeyPatch) -> None:
    """The local loss is recorded a second time in backward."""
    original = Call.__setattr__ if "__setattr__" in Call.__dict__ else object.__setattr__
    patch.setattr(
        Call,
        "__setattr__",
        lambda self, name, value: original(self, name, False if name == "recomputing" else value),
        raising=False,
    )


def base_is_not_frozen(patch: pytest.MonkeyPatch) -> None:
    """The base's parameters keep wanting gradients."""

    @contextmanager
    def frozen(self: Any) -> Iterator[None]:
        yield

    patch.setattr("addenda.plug.base.Base.frozen", frozen)


def module_is_detached(patch: pytest.MonkeyPatch) -> None:
    """The contribution leaves the graph."""
    original = hooks.apply_at
    patch.setattr(hooks, "apply_at", lambda *args: original(*args).detach())


@pytest.mark.parametrize(
    ("mutant", "case", "error"),
    [
        (selection_read_at_recompute, "lora", Exception),
        (selection_read_at_recompute, "neutral", Exception),
        (recomputing_collects_again, "parallel", AssertionError),
        (base_is_not_frozen, "registers", AssertionError),
        (module_is_detached, "neutral-context", Exception),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], case: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the captured selection torch itself notices that other tensors were saved."""
    subject = throwaway("llama", case)
    subject.plug("n", case="lora" if case != "lora" else "registers")
    mutant(monkeypatch)
    with pytest.raises(error) as caught:
        check_learning(subject)
    if error is Exception:
        assert isinstance(caught.value, AssertionError | RuntimeError | torch.utils.checkpoint.CheckpointError)


@pytest.mark.parametrize("case", ["registers", "registers-neutral", "registers-context"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_stands_alongside_and_was_read_before_keeps_no_graph(case: str, mode: Any) -> None:
    """Keys and values that were computed under a caller's mode are kept, and serve one training step after the other."""
    subject = throwaway("llama", "lora")
    subject.plug("n", case=case)
    wanted = [step(subject, alongside=True) for _ in range(2)]
    subject.base.unplug("n")
    subject.plug("n", case=case)
    subject.base.modules["n"].requires_grad_(False)
    with mode(), subject.base.using("n"):
        subject.model(batch()[0])
    with torch.enable_grad():
        kept = subject.base._machinery._key_values(subject.base.modules["n"])
    held = [tensor for pair in kept.values() for tensor in pair]
    assert held
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in held)
    for loss, grads, _ in wanted:
        again = step(subject, alongside=True)
        assert torch.equal(again[0], loss)
        assert all(torch.equal(again[1][name], grad) for name, grad in grads.items())
