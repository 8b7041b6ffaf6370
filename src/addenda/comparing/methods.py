"""Methods that are compared: modules of each kind, fine-tuning, PEFT's LoRA, retrieval and context, by name.

To add one that trains a module is to add a line to `METHODS`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, known
from addenda.kinds.cartridge import Cartridge
from addenda.kinds.locas_glu import LocasGLU
from addenda.kinds.lora import LoRA
from addenda.kinds.neutral_residues import NeutralResidues
from addenda.kinds.parallel_adapter import ParallelAdapter
from addenda.kinds.registers import Registers

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: nothing; a module trained on rows; one written in a stream; every weight of the base; PEFT's LoRA; text in the window
How = Literal["nothing", "module", "stream", "full", "peft", "rag", "context"]
#: what lies between two rates of a sweep
STEP = 3


@dataclass(frozen=True)
class Size:
    """How large modules are: `extra` a share of the base's parameters, `count` of registers and cartridge slots."""

    extra: float
    count: int
    rank: int


@dataclass(frozen=True)
class Method:
    """One way: `rates` are a lower one, the tested one and a higher one; `needs` is a package that does not come with Addenda."""

    name: str
    how: How
    said: str
    rates: tuple[float, ...] = ()
    kind: Callable[[Base, Size], Kind] | None = None
    needs: str | None = None

    @property
    def gated(self) -> bool:
        """Whether a gate keeps it silent off its subject."""
        return self.name.startswith("neutral") or self.name.endswith("neutral")

    def sweep(self, count: int) -> tuple[float, ...]:
        """So many rates, each about three times the one below it, the tested one first, then outwards; none for no training.

        An even number has the extra one below: too low a rate is only slow, too high a rate is lost.
        """
        if not self.rates:
            return ()
        middle = len(self.rates) // 2
        tried = {number - middle: rate for number, rate in enumerate(self.rates)}
        for far in range(middle + 1, count // 2 + 1):
            tried |= {-far: self.rates[0] / STEP ** (far - middle), far: self.rates[-1] * STEP ** (far - middle)}
        return tuple(tried[at] for at in sorted(tried, key=lambda at: (abs(at), at))[:count])


def equal_rank(base: Base, size: Size) -> int:
    """The rank of a LoRA on all linears with as many parameters as `extra` says."""
    return LoRA.rank_for(round(size.extra * base.anatomy.parameters), base.anatomy)


def _around(rate: float) -> tuple[float, ...]:
    """The rate below it, it, and the one above."""
    return (rate / STEP, rate, rate * STEP)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("base", "nothing", "the base as it is"),
        Method("full", "full", "every weight of the base is trained", (1e-4, 3e-4, 1e-3)),
        Method(
            "lora", "module", "LoRA on all linears", _around(LoRA.default_lr),
            lambda base, size: LoRA(equal_rank(base, size)),
        ),
        Method("peft", "peft", "PEFT's LoRA of the same rank, on the same rows", _around(LoRA.default_lr), needs="peft"),
        Method(
            "adapter", "module", "an FFN beside each FFN, no gate", _around(ParallelAdapter.default_lr),
            lambda base, size: ParallelAdapter(extra=size.extra),
        ),
        Method(
            "neutral", "module", "neutral residues: gated FFNs, silent off their subject", _around(NeutralResidues.default_lr),
            lambda base, size: NeutralResidues(extra=size.extra),
        ),
        Method(
            "neutral-token", "module", "neutral residues with a gate for each token", _around(NeutralResidues.default_lr),
            lambda base, size: NeutralResidues(extra=size.extra, gate="token"),
        ),
        Method(
            "registers", "module", "registers in one softmax with the text", _around(Registers.default_lr),
            lambda base, size: Registers(size.count, init="text"),
        ),
        Method(
            "registers-neutral", "module", "registers behind a gate of their own", _around(Registers.default_lr),
            lambda base, size: Registers(size.count, init="text", gate="neutral"),
        ),
        Method(
            "cartridge", "module", "trained keys and values", _around(Cartridge.default_lr),
            lambda base, size: Cartridge(size.count, init="text"),
        ),
        Method(
            "locas", "stream", "a memory written as the corpus streams by once", _around(LocasGLU.default_lr),
            lambda base, size: LocasGLU(size.rank, scale=16.0),
        ),
        Method("rag", "rag", "passages found by BM25 in the window", needs="bm25s"),
        Method("context", "context", "the beginning of the corpus in the window"),
    )
}  # fmt: skip
DEFAULT = (
    "base",
    "full",
    "lora",
    "adapter",
    "registers",
    "registers-neutral",
    "cartridge",
    "neutral",
    "locas",
    "rag",
    "context",
)


def methods_named(names: Sequence[str]) -> list[Method]:
    """Methods by name, `base` first whether named or not.

    Raises:
        AddendaError: there is none of that name (with the nearest), or one stands twice.
    """
    for name in names:
        if name not in METHODS:
            raise AddendaError(f"there is no method '{name}'; methods are {known(name, list(METHODS))}")
    if len(set(names)) < len(names):
        raise AddendaError(f"a method is named twice in {', '.join(names)}")
    return [METHODS["base"], *(METHODS[name] for name in names if name != "base")]


def check_installed(methods: Sequence[Method]) -> None:
    """See that the packages that methods need are there, before any work is done.

    Raises:
        AddendaError: some are not; says what brings them, and which methods do without.
    """
    lacking = [
        method for method in methods if method.needs is not None and importlib.util.find_spec(method.needs) is None
    ]
    if lacking:
        packages = " ".join(sorted({str(method.needs).replace("_", "-") for method in lacking}))
        others = ",".join(method.name for method in methods if method not in lacking)
        raise AddendaError(
            f"{', '.join(f'{method.name} needs {method.needs}' for method in lacking)}, which is not installed: "
            f"pip install {packages}, or compare without: --methods {others}"
        )
