"""The comparisons, section by section: what is plugged and selected, and which two steps are timed against each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

import addenda
from benchmarks import live, memory, models, steps
from benchmarks.timing import Step

if TYPE_CHECKING:
    from addenda.plug.base import Base
    from benchmarks.bench import Bench

#: issue 2: what must hold on the 150M model; on `tiny` reported only
OFF, USE_DECODE, OFF_DOMAIN, SIXTEEN, MIXED, TRAINING = 1.02, 1.30, 1.10, 1.05, 1.35, 1.00
#: the kinds that these targets are set for
JUDGED = ("neutral", "neutral-context")
PROMPT, STEPS = 64, 16
#: tokens of a short prefill, where the few live tokens of a gated module weigh most
SHORT = 128
ROWS, MODULES = 8, 4


class Bodies:
    """The bare model and everything that is compared with it; all share one set of base weights."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.bare = models.bare(bench.model, bench.dtype)
        self.again = models.twin(self.bare)
        self.base = addenda.attach(models.twin(self.bare))
        self.ids = {which: models.text_ids(which, ROWS * bench.length) for which in ("on", "off")}
        self.row = {which: ids[: bench.length][None] for which, ids in self.ids.items()}
        self.short = {which: ids[:SHORT][None] for which, ids in self.ids.items()}
        self.few = {which: ids[: PROMPT + STEPS][None] for which, ids in self.ids.items()}
        self.rows = {which: ids[: ROWS * (PROMPT + STEPS)].view(ROWS, -1) for which, ids in self.ids.items()}
        count = max(2, bench.length // 128)
        self.taught = torch.cat([self.ids["on"], self.ids["off"][:128]])[-128 * count :].view(count, 128)
        self.peft: Any = None

    def with_peft(self) -> Any:
        """The same base under PEFT's LoRA, made when first asked for."""
        if self.peft is None:
            budget = round(models.EXTRA * self.base.anatomy.parameters)
            self.peft = models.peft_lora(models.twin(self.bare), budget)
        return self.peft

    def kind(self, name: str, base: Base | None = None, module: str | None = None, seed: int = 0) -> Any:
        """Plug one of the benchmark's kinds."""
        base = self.base if base is None else base
        made = models.plugged(base, module or name, models.kinds(base)[name], seed)
        if name in live.GATED:
            live.randomised(made, seed)
        return made

    def shares(self, kind: str, where: str) -> list[float]:
        """The live shares of a gated kind, by layer."""
        return self.bench.shares[kind].at(where, self.base.anatomy.layers)

    def target(self, value: float) -> float | None:
        """A target holds for the 150M model in float32; elsewhere numbers are reported."""
        return value if self.bench.model == "150m" and self.bench.dtype == torch.float32 else None


def run(bench: Bench, chosen: list[str]) -> None:
    """Run the chosen sections; the noise floor is always measured first."""
    bodies = Bodies(bench)
    if chosen != ["memory"]:
        noise(bodies, chosen)
    for name, section in ALL.items():
        if name in chosen:
            section(bodies)


def noise(b: Bodies, chosen: list[str]) -> None:
    """The bare base against a copy of itself that shares its weights."""
    for step, make in _single(b, "on").items():
        b.bench.pair("noise", step, make(b.bare), make(b.again), a="bare", b="bare")
    if "mixed" in chosen:
        for step, make in _batch(b, "on").items():
            b.bench.pair("noise", step, make(b.bare), make(b.again), a="bare", b="bare")
    if "use" in chosen and b.bench.wanted("peft-lora"):
        b.bench.pair("noise", "train", _peft_train(b), _peft_train(b), a="peft-lora", b="peft-lora")


def off(b: Bodies) -> None:
    """A module unplugged, plugged but not selected, and every kind plugged and none in use."""
    b.kind("neutral")
    for step, make in _single(b, "on").items():
        target = b.target(OFF) if step == "decode" else None
        b.bench.pair("off", step, make(b.bare), make(b.base.model), target, a="bare", b="neutral plugged, none in use")
    b.base.unplug("neutral")
    for step, make in _single(b, "on").items():
        target = b.target(OFF) if step == "decode" else None
        b.bench.pair("off", step, make(b.bare), make(b.base.model), target, a="bare", b="unplugged")
    for name in models.kinds(b.base):
        b.kind(name)
    for step, make in _single(b, "on").items():
        target = b.target(OFF) if step == "decode" else None
        steps_ = make(b.bare), make(b.base.model, b.base.off)
        b.bench.pair("off", step, *steps_, target, a="bare", b="every kind plugged, off")
    _unplug_all(b.base)


def use(b: Bodies) -> None:
    """Each kind in use: decoding and prefill beside the bare base, a training step beside PEFT's LoRA."""
    if b.bench.wanted("peft-lora"):
        for step, make in _single(b, "on").items():
            b.bench.pair("use", step, make(b.bare), make(b.with_peft()), a="bare", b="peft-lora")
    for name in models.kinds(b.base):
        if b.bench.wanted(name):
            _use_one(b, name)


def _use_one(b: Bodies, name: str) -> None:
    module = b.kind(name)
    under = lambda: b.base.using(name)  # noqa: E731
    gated, judged = name in live.GATED, name in JUDGED
    for where in ("on", "off") if gated else ("on",):
        for step, make in _single(b, where).items():
            facts: dict[str, Any] = {"a": "bare", "b": name + f", {where} domain" * gated}
            if gated:
                ids, start = {
                    "decode": (b.few[where], PROMPT),
                    "prefill": (b.row[where], 0),
                }.get(step, (b.short[where], 0))
                live.set_live(b.base, name, b.shares(name, where), ids, start)
                facts["live"] = [round(share, 3) for share in live.measure(b.base, name, ids, start)]
            limit = (
                {("decode", "on"): USE_DECODE, ("prefill", "off"): OFF_DOMAIN}.get((step, where)) if judged else None
            )
            target = None if limit is None else b.target(limit)
            b.bench.pair("use", step, make(b.bare), make(b.base.model, under), target, **facts)
    if b.bench.wanted("peft-lora") and b.bench.dtype == torch.float32:
        if gated:
            live.set_live(b.base, name, b.shares(name, "on"), b.taught)
        penalised = module.kind.default_local > 0 or module.gate is not None
        for replay, what in ((0, name), (1, f"{name}, with penalties on replay"))[: 1 + penalised]:
            ours = steps.train_module(b.base, name, b.taught, replay)
            target = b.target(TRAINING) if judged else None
            b.bench.pair("use", "train", _peft_train(b), ours, target, a="peft-lora", b=what)
        module.requires_grad_(False)
    b.base.unplug(name)


def plugged(b: Bodies) -> None:
    """4 and 16 modules plugged, one of them in use, beside that one alone."""
    under: dict[int, Callable[[], AbstractContextManager[Any]]] = {}
    bases: dict[int, Base] = {}
    for count in (1, 4, 16):
        base = bases[count] = b.base if count == 1 else addenda.attach(models.twin(b.bare))
        for number in range(count):
            b.kind("neutral", base, f"m{number}", seed=number)
        live.set_live(base, "m0", b.shares("neutral", "on"), b.row["on"])
        under[count] = lambda base=base: base.using("m0")
    for count in (4, 16):
        for step, make in _single(b, "on").items():
            alone, many = (make(bases[n].model, under[n]) for n in (1, count))
            target = b.target(SIXTEEN) if count == 16 else None
            b.bench.pair("plugged", step, alone, many, target, a="1 plugged, in use", b=f"{count} plugged, 1 in use")
    for base in bases.values():
        _unplug_all(base)


def mixed(b: Bodies) -> None:
    """A batch of 8 rows with 4 modules, two rows each, beside the same batch with one module on every row."""
    for name in ("neutral", "neutral-context", "lora", "parallel", "registers", "registers-neutral"):
        if not b.bench.wanted(name):
            continue
        names = [f"m{number}" for number in range(MODULES)]
        for number, module in enumerate(names):
            b.kind(name, None, module, seed=number)
        index = torch.arange(ROWS) % MODULES
        every: list[dict[str, float]] = [{module: 1.0} for module in names]
        for step, make in _batch(b, "on").items():
            if name in live.GATED:
                for module in names:
                    start = PROMPT if step.startswith("decode") else 0
                    live.set_live(b.base, module, b.shares(name, "on"), b.rows["on"], start)
            alone = make(b.base.model, lambda: b.base.using("m0"))
            rows = [every[i] for i in index.tolist()]
            split = make(b.base.model, partial(b.base.rows, rows))
            target = b.target(MIXED) if name in JUDGED else None
            b.bench.pair("mixed", step, alone, split, target, a=f"8 rows, 1 {name}", b=f"8 rows, 4 {name}")
            table = make(b.base.model, partial(b.base.rows, index, table=every))
            b.bench.pair("mixed", step, alone, table, None, a=f"8 rows, 1 {name}", b=f"8 rows, 4 {name}, by index")
        _unplug_all(b.base)


def fused(b: Bodies) -> None:
    """What folds, plain and fused into copies of the base's matrices, beside the bare base."""
    for name, kind in models.folding(b.base).items():
        if not b.bench.wanted(name):
            continue
        models.plugged(b.base, name, kind)
        for step, make in _single(b, "on").items():
            plain = make(b.base.model, partial(b.base.using, name))
            b.bench.pair("fused", step, make(b.bare), plain, a="bare", b=name)
            with b.base.fused(name):  # once, as in `generate`: making the copies is no part of a step
                b.bench.pair("fused", step, make(b.bare), make(b.base.model), a="bare", b=f"{name}, fused")
        b.base.unplug(name)


def peaks(b: Bodies) -> None:
    """Peak memory of each kind, in processes of their own."""
    bench = b.bench
    for name in ["bare", "peft-lora", *models.kinds(b.base)]:
        if name == "bare" or bench.wanted(name):
            for what in memory.WHAT:
                found = memory.child(bench.model, name, what, str(bench.dtype).removeprefix("torch."), bench.length)
                if found is not None:
                    bench.done({"section": "memory", **found})


#: sections by name, in the order in which they run
ALL: dict[str, Callable[[Bodies], None]] = {
    "off": off,
    "use": use,
    "plugged": plugged,
    "mixed": mixed,
    "fused": fused,
    "memory": peaks,
}


def _single(b: Bodies, where: str) -> dict[str, Callable[..., Step]]:
    return {
        "decode": lambda model, *under: steps.decode(model, b.few[where], PROMPT, *under),
        "prefill": lambda model, *under: steps.prefill(model, b.row[where], *under),
        f"prefill, {SHORT} tokens": lambda model, *under: steps.prefill(model, b.short[where], *under),
    }


def _batch(b: Bodies, where: str) -> dict[str, Callable[..., Step]]:
    return {
        "decode, 8 rows": lambda model, *under: steps.decode(model, b.rows[where], PROMPT, *under),
        "prefill, 8 rows": lambda model, *under: steps.prefill(model, b.rows[where], *under),
    }


def _peft_train(b: Bodies) -> Step:
    model = b.with_peft()
    return steps.train(model, [p for name, p in model.named_parameters() if "lora_" in name], b.taught)


def _unplug_all(base: Base) -> None:
    for name in list(base.modules):
        base.unplug(name)
