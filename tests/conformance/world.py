"""What the laws are tested on: pico bases, their never-attached twins, perturbed modules, and what 'close' means."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import addenda
from addenda.core.call import Share
from addenda.core.module import KnowledgeModule
from addenda.gates.context import ContextGate
from addenda.gates.document import DocumentGate, page
from conformance.kinds import CASES, TEXT
from pico import PAD, pico, pico_tokenizer, random_ids

# Longer than the picos' sliding windows. Row 0 and 3 are full, 1 and 2 begin with pads in the padded batch.
TOKENS = 11
IDS = random_ids(4, TOKENS, seed=11)
LENGTHS = (TOKENS, 7, 9, TOKENS)
TOLERANCE = 1e-5
NOISE = 0.15  # on every parameter of a perturbed module: it changes most logits, and rounding stays small
# A real model of thirty layers, driven far from its text, rounds more coarsely than three layers do: its tolerance is
# three times as wide, and noise is made smaller while it changes a logit by more than this.
WIDER, MOST = 3.0, 5.0


# -- bases ----------------------------------------------------------------------------------------------------------


#: real models that the laws also run on, among the slow tests
REAL = ("smollm2",)


@cache
def _read(name: str) -> Any:
    """A real model, read once in each process."""
    base = addenda.load_base(name)
    base.detach()
    return base.model


def made(arch: str, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """A new model of an architecture; of a real one a copy, with `num_hidden_layers` of its layers."""
    if arch not in REAL:
        return pico(arch, dtype=dtype, **overrides)
    model = copy.deepcopy(_read(arch)).to(dtype)
    layers = overrides.pop("num_hidden_layers", model.config.num_hidden_layers)
    assert not overrides, f"nothing else of a real model can be chosen: {overrides}"
    del model.model.layers[layers:]
    model.config.num_hidden_layers = layers
    return model


@cache
def _model(arch: str, dtype: torch.dtype, which: str) -> Any:
    if arch in REAL and which == "bare":
        return _read(arch)
    return made(arch, dtype)


def model_of(arch: str, dtype: torch.dtype = torch.float32) -> Any:
    """The pico model that tests attach to; every test gives it back as it was."""
    return _model(arch, dtype, "attached")


def twin_of(arch: str, dtype: torch.dtype = torch.float32) -> Any:
    """The same model, never attached: the bare base."""
    return _model(arch, dtype, "bare")


@cache
def _bare(arch: str, dtype: torch.dtype, padded: bool) -> Tensor:
    return logits(twin_of(arch, dtype), *batch(padded))


def bare(arch: str, dtype: torch.dtype = torch.float32, padded: bool = False) -> Tensor:
    """Logits of the bare base on the tests' batch."""
    return _bare(arch, dtype, padded).clone()


def batch(padded: bool = False) -> tuple[Tensor, Tensor]:
    """The tests' batch: ids [4, 11] and mask, all rows full or two of them padded on the left."""
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    if padded:
        for row, length in enumerate(LENGTHS):
            ids[row, : TOKENS - length] = PAD
            mask[row, : TOKENS - length] = 0
    return ids, mask


def positions(mask: Tensor) -> Tensor:
    """Position ids as `generate` makes them: pads do not count."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


@torch.no_grad()
def logits(model: Any, ids: Tensor, mask: Tensor | None = None, **more: Any) -> Tensor:
    """Logits [B, T, V], in float32; positions skip the pads."""
    if mask is not None and not bool(mask.all()):
        more.setdefault("position_ids", positions(mask))
        if model.config.model_type == "opt":
            more.pop("position_ids")  # OPT counts its mask by itself
    return model(ids, attention_mask=mask, **more).logits.float()


def generate(model: Any, ids: Tensor, mask: Tensor | None = None, *, seed: int = 0, **more: Any) -> Any:
    """Six new tokens with their logits; the random state is set from `seed` first."""
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` notes where it was called for every kind of device
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    mask = torch.ones_like(ids) if mask is None else mask
    extra = {"return_dict_in_generate": True, "output_logits": True, "output_scores": "num_beams" in more}
    return model.generate(ids, attention_mask=mask, **settings | extra | more)


# -- modules --------------------------------------------------------------------------------------------------------


@dataclass
class Subject:
    """A base, an architecture, a case of the table, and the perturbed modules of it that are plugged."""

    base: addenda.Base
    arch: str
    case: str
    dtype: torch.dtype = torch.float32
    modules: dict[str, KnowledgeModule] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        return self.base.model

    @property
    def gate(self) -> str | None:
        return CASES[self.case].gate

    @property
    def joint(self) -> bool:
        return CASES[self.case].joint

    def plug(self, name: str = "m", *, seed: int = 0, case: str | None = None) -> KnowledgeModule:
        """Plug a perturbed module and check that it is worth testing with."""
        module = perturbed(self.base, name, case or self.case, seed=seed)
        self.modules[name] = module
        return module

    def bare(self, padded: bool = False) -> Tensor:
        return bare(self.arch, self.dtype, padded)

    def tolerance(self, reference: Tensor) -> float:
        return _allowed(reference)


def fresh(base: addenda.Base, name: str, case: str, *, seed: int = 0) -> KnowledgeModule:
    """A new module of a case, with its text where it starts from one."""
    of = CASES[case]
    if base.tokenizer is None:
        base.tokenizer = pico_tokenizer()
    return base.new(name, of.make(base.anatomy), gate=of.behind, seed=seed, **({"text": TEXT} if of.text else {}))


_kept: dict[tuple[Any, ...], dict[str, Tensor]] = {}


def perturbed(base: addenda.Base, name: str, case: str, *, seed: int = 0) -> KnowledgeModule:
    """A module far from fresh: noise on every parameter, gates cut so that about half of the tokens are live.

    Beside the first, `m`, a case of which one alone may be selected has another one's.
    """
    case = case if name == "m" else CASES[case].beside or case
    module = fresh(base, name, case, seed=seed)
    key = (base.fingerprint, base.host.dtype(), case, seed)  # gates are cut on this very base's activations
    if key not in _kept:
        start = {name: tensor.clone() for name, tensor in module.tensors().items()}
        for smaller in (1.0, 0.3, 0.1):
            module.load_tensors(start)
            _disturb(base, module, NOISE * smaller, seed)
            if CASES[case].calibrated:
                base.start_from_text(name, base.tokenize(TEXT))
            if base.anatomy.layers < 10 or _change(base, module) <= MOST:
                break
        _kept[key] = {name: tensor.clone() for name, tensor in module.tensors().items()}
    else:
        module.load_tensors(_kept[key])
    return module


@torch.no_grad()
def _disturb(base: addenda.Base, module: KnowledgeModule, noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(1000 + seed)
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=noise)
    cut_gates(base, module)


def _change(base: addenda.Base, module: KnowledgeModule) -> float:
    """The most by which a module changes a logit of the tests' batch."""
    with base.off():
        before = logits(base.model, *batch())
    with base.using(module.name):
        return float((logits(base.model, *batch()) - before).abs().max())


@torch.no_grad()
def cut_gates(base: addenda.Base, module: KnowledgeModule) -> None:
    """Set every threshold of a module to the median of its scores on the tests' batch."""
    inputs = site_inputs(base, [*module.sites(), *([module.gate.site] if module.gate is not None else [])])
    for key in module.sites():
        adapter: Any = module.adapter(key)
        if getattr(adapter, "threshold", None) is None:
            continue
        adapter.threshold.zero_()
        weight = adapter.router if hasattr(adapter, "router") else adapter.gate_weight
        scores = inputs[key].to(weight.dtype) @ weight + getattr(adapter, "gate_bias", 0.0)
        adapter.threshold.copy_(scores.float().median())
    if module.gate is not None:
        site = module.gate.site
        padded = site_inputs(base, [site], padded=True)[site]
        rows = [*inputs[site], *(padded[row, -length:] for row, length in enumerate(LENGTHS) if length < TOKENS)]
        CUTS[type(module.gate)](module.gate, rows)


def cut_document_gate(gate: Any, rows: list[Tensor]) -> None:
    """Choose a network and a threshold so that in every row [T, D] some tokens are live and some are dead."""
    random = torch.Generator().manual_seed(0)
    gate.drift.fill_(0.1)
    gate.room.fill_(0.5)
    draws, (hidden, width) = 200, gate.up.shape
    up = torch.randn(draws, hidden, width, generator=random) * width**-0.5
    down = torch.randn(draws, hidden, 1, generator=random) * 0.5  # a token says a few nats, as when fitted
    least, most = torch.full((draws,), -torch.inf), torch.full((draws,), torch.inf)
    for x in rows:
        evidence = (torch.nn.functional.silu(x.float() @ up.mT) @ down)[..., 0] - 0.3
        sums = page(evidence.clamp(-4.0, 4.0) - 0.1, torch.tensor(torch.inf), None)
        least, most = torch.maximum(least, sums.amin(1)), torch.minimum(most, sums.amax(1))
    best = int(torch.minimum(most - least, most).argmax())
    assert most[best] > max(0.0, float(least[best])), "no gate crosses its threshold in every row"
    for name, value in (("up", up[best]), ("down", down[best, :, 0]), ("bias", torch.tensor(-0.3))):
        getattr(gate, name).copy_(value)
    gate.threshold.fill_(max(float(least[best] + most[best]) / 2, float(most[best]) / 2))


def cut_context_gate(gate: Any, rows: list[Tensor]) -> None:
    """Choose weights and threshold so that in every row [T, D] some tokens are live and some are dead."""
    drawn = torch.randn(400, rows[0].shape[-1], generator=torch.Generator().manual_seed(0)) * 0.3
    gate.prior.fill_(2.0)
    bias = gate.bias.detach().float()
    means = [  # [T, draws]
        ((x.float() @ drawn.T + bias).cumsum(0) - 2.0) / (torch.arange(1, len(x) + 1)[:, None] + 2.0) for x in rows
    ]
    least = torch.stack([mean.amin(0) for mean in means]).amax(0)
    most = torch.stack([mean.amax(0) for mean in means]).amin(0)
    best = int((most - least).argmax())
    assert most[best] > least[best], "no gate crosses its threshold in every row"
    gate.weight.copy_(drawn[best])
    gate.threshold.copy_((most[best] + least[best]) / 2)


CUTS = {ContextGate: cut_context_gate, DocumentGate: cut_document_gate}


def site_inputs(base: addenda.Base, keys: Sequence[str], padded: bool = False) -> dict[str, Tensor]:
    """What enters each site [B, T, D] on the tests' batch, with every module off."""
    seen: dict[str, Tensor] = {}
    handles = []
    for key in dict.fromkeys(keys):

        def note(_: nn.Module, args: Any, kwargs: Any, key: str = key) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            seen[key] = x.detach().view(*IDS.shape, -1)

        module = base.host.submodule(base.host.site(key).entry)
        handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    with base.off():
        logits(base.model, *batch(padded))
    for handle in handles:
        handle.remove()
    return seen


# -- what must hold before a law says anything ----------------------------------------------------------------------


class Watcher:
    """Records what every site of every share reported."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}
        self.weights: dict[str, Any] = {}
        self.live: dict[str, int] = {}
        self.total: dict[str, int] = {}

    def __call__(self, share: Share, site: str, **facts: Any) -> None:
        self.seen.setdefault(share.name, []).append(site)
        self.weights[share.name] = share.weight
        live, total = _live(**facts)
        self.live[share.name] = self.live.get(share.name, 0) + live
        self.total[share.name] = self.total.get(share.name, 0) + total


def _live(
    gate: Tensor | None = None, contribution: Any = None, shape: Any = (), slots: int | None = None, **_: Any
) -> tuple[int, int]:
    """Live tokens and all tokens of one report."""
    if gate is not None:
        return int((gate != 0).sum()), gate.numel()
    if slots is not None:
        return 1, 1
    total = int(torch.Size(shape).numel())
    if contribution is None:
        return 0, total
    if contribution.index is not None:
        return contribution.index.numel(), total
    return (total, total) if contribution.live is None else (int(contribution.live.sum()), total)


def watch(base: addenda.Base, *names: Any) -> Watcher:
    """Run the tests' batch under a selection and report what ran."""
    watcher = Watcher()
    with base.using(*names), base.watching(observer=watcher):
        logits(base.model, *batch())
    return watcher


def assert_alive(subject: Subject, *names: str) -> None:
    """Each module changes some logits; a gated one is live on some tokens and dead on others."""
    for name in names or tuple(subject.modules):
        with subject.base.using(name):
            on = logits(subject.model, *batch())
        change = (on - subject.bare()).abs().max()
        assert torch.isfinite(on).all()
        assert change > 1e-2, f"{name} changes the logits by {float(change):.1e} at most: nothing would be tested"
        watcher = watch(subject.base, name)
        live, total = watcher.live[name], watcher.total[name]
        if subject.base.modules[name].gate is not None or subject.gate == "token":
            assert 0 < live < total, f"{name}: {live} of {total} tokens are live; a law needs some of each"


# -- what close means -----------------------------------------------------------------------------------------------


def _allowed(logits: Tensor) -> float:
    """The stated tolerance of the largest logit; wider where there is a row for each token of a real vocabulary."""
    return TOLERANCE * (WIDER if logits.shape[-1] > 10_000 else 1.0) * float(logits.abs().max())


def close(a: Tensor, b: Tensor, tolerance: float | None = None) -> None:
    """Assert that logits agree within the stated tolerance of the largest (float32)."""
    allowed = _allowed(b) if tolerance is None else tolerance
    far = float((a - b).abs().max())
    assert far <= allowed, f"logits differ by {far:.2e}; {allowed:.2e} is allowed"


@dataclass
class Ties:
    """How many token comparisons were stopped because the two best scores lay closer than the tolerance."""

    stopped: int = 0
    compared: int = 0


TIES = Ties()


def same_tokens(a: Any, b: Any, prompt: int) -> None:
    """Assert that two generations give the same tokens and close logits; a row stops, and is counted, at a tie."""
    assert a.sequences.shape == b.sequences.shape
    for row in range(len(a.sequences)):
        for step in range(a.sequences.shape[1] - prompt):
            x, y = a.logits[step][row].float(), b.logits[step][row].float()
            close(x, y)
            TIES.compared += 1
            if a.sequences[row, prompt + step] != b.sequences[row, prompt + step]:
                best = y.topk(2).values
                gap = float(best[0] - best[1])
                assert gap <= 2 * _allowed(y), f"row {row} differs at step {step}, gap {gap:.1e}"
                TIES.stopped += 1
                break


# -- what a base looks like -----------------------------------------------------------------------------------------


#: what transformers' own generate notes on a model
OTHERS = frozenset({"_previous_max_cache_length"})


def structure(model: Any) -> dict[str, Any]:
    """Everything of a model that attaching, plugging and training must leave as it is."""
    return {
        "type": type(model),
        "keys": list(model.state_dict()),
        "modules": [(name, type(module)) for name, module in model.named_modules()],
        "attributes": {name: frozenset(module.__dict__) - OTHERS for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks)) for name, module in model.named_modules()
        },
        "tensors": {
            name: (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.requires_grad)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        },
        "training": [module.training for module in model.modules()],
        "configs": {name: id(module.config) for name, module in model.named_modules() if hasattr(module, "config")},
        "config": copy.deepcopy(model.config.to_dict()),
        "attention": model.config._attn_implementation,
        "generation": model.generation_config.to_dict(),
        "forward": {name: name in model.__dict__ for name in ("forward", "generate")},
    }


def differences(after: Any, before: Any, at: str = "") -> list[str]:
    """What is not the same in two structures, in words."""
    if after == before:
        return []
    if isinstance(before, dict):
        return [
            line for key in {*before, *after} for line in differences(after.get(key), before.get(key), f"{at}/{key}")
        ]
    if isinstance(before, frozenset):
        return [f"{at}: {sorted(before ^ (after or frozenset()))}"]
    return [f"{at}: {before!r} became {after!r}"]


def values(model: Any) -> dict[str, Tensor]:
    """Copies of every parameter and buffer."""
    named: Mapping[str, Tensor] = model.state_dict()
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def assert_values(model: Any, before: Mapping[str, Tensor]) -> None:
    """Every parameter and buffer is bit-equal to its copy."""
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not changed, f"the base changed: {changed}"


def short(arch: str) -> dict[str, Any]:
    """Fields of a pico configuration with two layers of three, for what costs time by the layer."""
    more: dict[str, Any] = {"num_hidden_layers": 2}
    if arch in ("gemma2", "gemma3"):
        more["layer_types"] = ["sliding_attention", "full_attention"]
    if arch == "smollm3":
        more["no_rope_layers"] = [1, 0]
    return more


def throwaway(arch: str, case: str, dtype: torch.dtype = torch.float32, **overrides: Any) -> Subject:
    """A subject with module `m` on a model of its own, for what would leave a shared one in disorder: mutants."""
    base = addenda.attach(made(arch, dtype, **overrides), pico_tokenizer())
    subject = Subject(base, arch, case, dtype)
    subject.plug("m")
    return subject


@contextmanager
def subject_of(arch: str, case: str, dtype: torch.dtype = torch.float32) -> Iterator[Subject]:
    """A subject on the shared model of an architecture; after it the model is checked to be as it was."""
    model = model_of(arch, dtype)
    before = structure(model)
    base = addenda.attach(model, pico_tokenizer())
    try:
        yield Subject(base, arch, case, dtype)
    finally:
        base.detach()
        model.zero_grad(set_to_none=True)
    assert not differences(structure(model), before), "a test left something of the library in the base"
    assert torch.equal(logits(model, *batch()), bare(arch, dtype))
