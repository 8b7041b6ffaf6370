"""Every kind in small configurations, by name; one that is not named here stands here with its defaults. Every law runs over all.

The first configurations, one or two of a kind, are those that the default tests run on the usual architectures and two more, the
slow ones on every one; `EXTRA` ones run on one to four by default; those of kinds that are no main case on all among the slow
tests, and all others on all in `make long`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from addenda.core import registry
from addenda.core.contracts import Kind
from addenda.core.site import Anatomy, Seam
from addenda.kinds.cartridge import Cartridge
from addenda.kinds.delta_product import DeltaProduct
from addenda.kinds.ffa_lora import FFALoRA
from addenda.kinds.ffn_skip import FFNSkip
from addenda.kinds.locas_glu import LocasGLU
from addenda.kinds.locas_mlp import LocasMLP
from addenda.kinds.lora import LoRA
from addenda.kinds.low_rank_units import LowRankUnits
from addenda.kinds.mlp_memory import MLPMemory
from addenda.kinds.neutral_residues import NeutralResidues
from addenda.kinds.open_book import OpenBook
from addenda.kinds.parallel_adapter import ParallelAdapter
from addenda.kinds.registers import Registers
from addenda.kinds.soft_tokens import SoftTokens
from addenda.kinds.ternary_units import TernaryUnits
from pico import ARCHS

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."


@dataclass(frozen=True)
class Case:
    """One configuration: how to make the kind for a base, and the gate that must be live here and dead there."""

    make: Callable[[Anatomy], Kind]
    gate: str | None = None  # None, "token", or the name of a module's own gate
    text: bool = False
    joint: bool = False
    behind: str | None = None  # the gate that the module is given; else what the kind's options say
    calibrated: bool = False  # it acts, and has a gradient, only once a text has set its thresholds
    beside: str | None = None  # of one of which alone may be selected: the case of other modules in a test
    hosts: int = 1  # of an extra case: architectures that the default tests run it on


def _fixed(kind: Kind, **more: Any) -> Case:
    return Case(lambda _: kind, **more)


def _targets(anatomy: Anatomy) -> tuple[str, ...]:
    """The first and the last linear layer of a block, by name."""
    names = [site.key.rsplit(".", 1)[-1] for site in anatomy.at(Seam.LINEAR)]
    return (names[0], names[-1])


MAIN: dict[str, Case] = {
    "registers": _fixed(Registers(count=4), joint=True),
    "registers-neutral": _fixed(Registers(count=4, mode="avg", gate="neutral"), gate="token"),
    "cartridge": _fixed(Cartridge(count=4, init="text"), joint=True, text=True),
    "neutral-document": _fixed(NeutralResidues(width=8, gate="document"), gate="document"),
    "parallel": _fixed(ParallelAdapter(width=8)),
    "lora": _fixed(LoRA(rank=2)),
    "locas-glu": _fixed(LocasGLU(rank=8, scale=8.0), text=True),
}

EXTRA: dict[str, Case] = {
    "registers-context": _fixed(Registers(count=4, mode="stack", gate="context"), gate="context", hosts=4),
    "neutral": _fixed(NeutralResidues(width=8, gate="token"), gate="token", hosts=4),
    "lora-document": _fixed(LoRA(rank=2), gate="document", behind="document", hosts=4),
    **{
        f"registers-{mode}-{gate}": _fixed(
            Registers(count=3, mode=mode, gate=gate),  # type: ignore[arg-type]
            gate={"joint": None, "neutral": "token", "context": "context"}[gate],
            joint=gate == "joint",
        )
        for mode in ("drop", "sum", "avg", "stack")
        for gate in ("joint", "neutral", "context")
        if (mode, gate) not in {("drop", "joint"), ("avg", "neutral"), ("stack", "context")}
    },
    "registers-text": _fixed(Registers(count=4, mode="stack", init="text"), joint=True, text=True),
    "registers-text-neutral": _fixed(
        Registers(count=4, mode="sum", init="text", gate="neutral"), gate="token", text=True
    ),
    "registers-unnormalised": _fixed(Registers(count=4, mode="avg", normalise=False), joint=True),
    "cartridge-random": _fixed(Cartridge(count=4), joint=True),
    "neutral-share": _fixed(NeutralResidues(extra=0.1, gate="token"), gate="token"),
    "neutral-context": _fixed(NeutralResidues(width=8, gate="context"), gate="context"),
    "registers-document": _fixed(Registers(count=4, gate="document"), gate="document"),
    "neutral-document-first": _fixed(NeutralResidues(width=8, gate="document", read_at=0), gate="document"),
    "neutral-context-first": _fixed(NeutralResidues(width=8, gate="context", read_at=0), gate="context"),
    "parallel-share": _fixed(ParallelAdapter(extra=0.1)),
    "lora-targets": Case(lambda anatomy: LoRA(rank=2, alpha=3.0, targets=_targets(anatomy))),
    "locas-mlp": _fixed(LocasMLP(rank=8, scale=8.0), text=True),
    "locas-mlp-relu": _fixed(LocasMLP(rank=4, init="random", scale=16.0, activation="relu", layers=(1,))),
    "locas-glu-random": _fixed(LocasGLU(rank=4, init="random", scale=16.0, layers=(0, 1))),
    "locas-glu-activation": _fixed(LocasGLU(rank=4, init="activation", scale=16.0), text=True),
    "rslora": _fixed(LoRA(rank=4, rslora=True)),
    "lora-context": _fixed(LoRA(rank=2), gate="context", behind="context"),
    "parallel-document": _fixed(ParallelAdapter(width=8), gate="document", behind="document"),
    "locas-glu-document": _fixed(LocasGLU(rank=8, scale=8.0), gate="document", behind="document", text=True),
    "locas-mlp-document": _fixed(LocasMLP(rank=8, scale=8.0), gate="document", behind="document", text=True),
    "soft-tokens": _fixed(SoftTokens(count=3), joint=True, text=True, hosts=3),
    "registers-joint-document": _fixed(
        Registers(count=4, mode="avg"), joint=True, gate="document", behind="document", hosts=4
    ),
    "registers-joint-context": _fixed(Registers(count=3), joint=True, gate="context", behind="context"),
    "cartridge-document": _fixed(
        Cartridge(count=4, init="text"), joint=True, text=True, gate="document", behind="document"
    ),
    "soft-tokens-document": _fixed(SoftTokens(count=3), joint=True, text=True, gate="document", behind="document"),
    "soft-tokens-random": _fixed(SoftTokens(count=3, init="random"), joint=True),
    "open-book": _fixed(OpenBook(count=4, rank=2), joint=True, text=True, hosts=4),
    "open-book-document": _fixed(OpenBook(count=4, rank=2), joint=True, text=True, gate="document", behind="document"),
    "open-book-pages": _fixed(OpenBook(count=6, rank=2, pages=2, lines=3), joint=True, text=True, hosts=4),
    "open-book-pages-document": _fixed(
        OpenBook(count=6, rank=2, pages=2, lines=3), joint=True, text=True, gate="document", behind="document"
    ),
    "delta-product": _fixed(DeltaProduct(width=8, heads=2), hosts=3),
    "delta-product-document": _fixed(DeltaProduct(width=8, heads=1, steps=1), gate="document", behind="document"),
    "mlp-memory": _fixed(MLPMemory(width=8), hosts=4),
    "mlp-memory-document": _fixed(MLPMemory(width=8, blocks=1), gate="document", behind="document"),
    "neutral-he": _fixed(NeutralResidues(width=8, gate="token", init="he"), gate="token"),
    "neutral-sigmoid": _fixed(NeutralResidues(width=8, gate="sigmoid")),
    "ternary": _fixed(TernaryUnits(width=12)),
    "ternary-plain": _fixed(TernaryUnits(width=12, gated=False, activation="relu", layers=(0, 1))),
    "ternary-gate": _fixed(TernaryUnits(width=12, token_gate=True), gate="token"),
    "ternary-document": _fixed(TernaryUnits(width=12), gate="document", behind="document"),
    "low-rank": _fixed(LowRankUnits(width=12, rank=4)),
    "low-rank-plain": _fixed(LowRankUnits(width=12, rank=4, gated=False, activation=None)),
    "low-rank-gate": _fixed(LowRankUnits(width=12, rank=4, token_gate=True), gate="token"),
    "ffa-lora": _fixed(FFALoRA(rank=2)),
    "ffn-skip": _fixed(
        FFNSkip(skip=0.6, first=1, last=0, spare=2, span=None), calibrated=True, beside="parallel", hosts=4
    ),
    "ffn-skip-span": _fixed(FFNSkip(skip=0.6, first=1, last=0, spare=1, span=1), calibrated=True, beside="parallel"),
    "ffn-skip-document": _fixed(
        FFNSkip(skip=0.9, first=1, last=0, spare=0),
        gate="document",
        behind="document",
        calibrated=True,
        beside="parallel",
    ),
}


def _of_others() -> dict[str, Case]:
    """Kinds that this file does not name: with their defaults, and what these say of themselves."""
    here = {value for value in globals().values() if isinstance(value, type)}
    found: dict[str, Case] = {}
    for name, method in registry.kinds().items():
        if method not in here:
            kind = method()
            gate = "token" if kind.gates_itself else kind.module_gate[0] if kind.module_gate else None
            found[name.lower()] = _fixed(kind, gate=gate, joint=kind.shared_softmax, text=kind.starts_from_text)
    return found


OTHERS = _of_others()
CASES: dict[str, Case] = MAIN | EXTRA | OTHERS

#: what Qwen3-MoE cannot host, its experts being no one FFN, and what plain FFNs cannot
PLAIN = ("gpt2", "gpt_neox", "opt")
REFUSED: frozenset[tuple[str, str]] = frozenset(
    [
        ("qwen3_moe", case)
        for case in CASES
        if case.startswith(("neutral", "parallel", "locas", "delta", "ternary", "low-rank", "ffn-skip"))
    ]
    + [("qwen3_moe", name.lower()) for name, kind in registry.kinds().items() if kind.seam is Seam.FFN]
    + [(arch, case) for arch in ARCHS for case in CASES if case.startswith("locas-glu") and arch in PLAIN]
    + [(arch, case) for arch in ARCHS for case in CASES if case.startswith("locas-mlp") and arch not in PLAIN]
)


#: what differs most: plain, with sliding windows, with soft caps, without an FFN module
USUAL = ("llama", "mistral", "gemma2", "opt")


def usual(archs: Iterable[str]) -> list[Any]:
    """Architectures of which only the usual ones run by default, for what hardly depends on them."""
    return [arch if arch in USUAL else pytest.param(arch, marks=pytest.mark.slow) for arch in archs]


def home(case: str) -> str:
    """The architecture for what is tested on one alone."""
    return "llama" if ("llama", case) not in REFUSED else "gpt2"


def pairs(extra_each: int = 1) -> list[Any]:
    """(arch, case) parameters: main cases on the usual architectures and two others, each extra one on a few.

    Slow tests run main cases, and one of each kind that is no main case, everywhere; `make long` runs the rest.
    """
    found = []
    for number, case in enumerate(CASES):
        hosts = [arch for arch in ARCHS if (arch, case) not in REFUSED]
        main = case in MAIN or case == "locas-mlp"  # on plain FFNs it is one
        each = max(extra_each, 2 if main else CASES[case].hosts)
        chosen = {hosts[(number * 5 + 4 * n) % len(hosts)] for n in range(each)}
        for arch in hosts:
            default = arch in chosen or (main and arch in USUAL)
            marks = () if default else (pytest.mark.slow,) if main or CASES[case].hosts > 1 else (pytest.mark.long,)
            found.append(pytest.param(arch, case, id=f"{arch}-{case}", marks=marks))
    return found


def spread(cases: dict[str, Case] = CASES, each: int = 1) -> list[Any]:
    """(arch, case) parameters in which every case and every architecture occurs, for laws that cost more."""
    found: dict[tuple[str, str], None] = {}
    for number, case in enumerate(cases):
        hosts = [arch for arch in ARCHS if (arch, case) not in REFUSED]
        for n in range(each):
            found[hosts[(number + 5 * n) % len(hosts)], case] = None
    for arch in ARCHS:
        if not any(arch == other for other, _ in found):
            found[arch, next(case for case in cases if (arch, case) not in REFUSED)] = None
    return [pytest.param(arch, case, id=f"{arch}-{case}") for arch, case in found]
