"""Methods that are compared: modules of each kind, fine-tuning, PEFT's methods, retrieval and context, by name.

Any other kind is a method under its own name in small letters, `delta_product`: no line is to be added for it. Nor for PEFT's
methods, which are called `peft:VERA`, or `peft:VERA(r=64)`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from addenda.comparing.peft_methods import PREFIX, Rival, rival_named
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, known
from addenda.core.registry import build_kind, kind_named, kinds, options_of

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: nothing; a module trained on rows; one written in a stream; every weight of the base; a method of PEFT's; text in the window
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
    """One way: `rates` are a lower one, the tested one and a higher one; `needs` is a package that does not come with Addenda.

    `gated` says that a gate keeps it silent off its subject; `rival` is the method of PEFT's that was asked for by name.
    """

    name: str
    how: How
    said: str
    rates: tuple[float, ...] = ()
    kind: Callable[[Base, Size], Kind] | None = None
    needs: str | None = None
    gated: bool = False
    rival: Rival | None = None

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


def equal_lora(base: Base, size: Size) -> Kind:
    """A LoRA on all linears with as many parameters as `extra` says."""
    return build_kind("LoRA", {}).of_size(round(size.extra * base.anatomy.parameters), base.anatomy)


def module(
    name: str,
    said: str,
    kind: str,
    size: Literal["extra", "count", "rank"] = "extra",
    how: How = "module",
    **options: Any,
) -> Method:
    """A method of a kind by name, with options, at the rate that the kind was tested at; which of the sizes is its own.

    Raises:
        AddendaError: no such kind, or no such option.
    """
    cls, fresh = kind_named(kind), build_kind(kind, options)

    def made(base: Base, sizes: Size) -> Kind:
        value = getattr(sizes, size)
        if size == "extra" and size not in options_of(fresh):
            return fresh.of_size(round(value * base.anatomy.parameters), base.anatomy)
        return build_kind(kind, {size: value} | options)

    gated = fresh.gates_itself or fresh.module_gate is not None
    return Method(name, how, said, _around(cls.default_lr), made, gated=gated)


def peft_method(words: str) -> Method:
    """One of PEFT's methods by name, with options if need be, at the rates of PEFT's LoRA.

    Raises:
        AddendaError: the installed version has no such method, or the method no such option.
    """
    rival = rival_named(words)
    said = f"PEFT's {rival.name}, on the same rows"
    return replace(METHODS["peft"], name=f"{PREFIX}{rival}", said=said, rival=rival)


def _around(rate: float) -> tuple[float, ...]:
    """The rate below it, it, and the one above."""
    return (rate / STEP, rate, rate * STEP)


class Methods(dict[str, Method]):
    """Methods by name, in small letters or as it is written; under the name of a kind one with its default options.

    After `peft:` stands the name of one of PEFT's methods.
    """

    def __missing__(self, name: str) -> Method:
        if name.lower().startswith(PREFIX):
            return peft_method(name[len(PREFIX) :])
        if name != name.lower():
            return self[name.lower()]
        plain = name.replace("_", "").replace("-", "")
        found = [kind for called, kind in kinds().items() if called.lower() == plain]
        if not found:
            there = known(name, list(self))
            raise AddendaError(f"there is no method '{name}'; methods are {there}, or a kind's name, or {PREFIX}NAME")
        return module(name, (found[0].__doc__ or name).splitlines()[0], name)


METHODS = Methods({
    method.name: method
    for method in (
        Method("base", "nothing", "the base as it is"),
        Method("full", "full", "every weight of the base is trained", (1e-4, 3e-4, 1e-3)),
        module("lora", "LoRA on all linears", "LoRA"),
        Method(
            "peft", "peft", "PEFT's LoRA of the same rank, on the same rows", _around(kind_named("LoRA").default_lr), needs="peft"
        ),
        module("adapter", "an FFN beside each FFN, no gate", "ParallelAdapter"),
        module("registers", "registers in one softmax with the text", "Registers", "count", init="text"),
        module("registers-neutral", "registers behind a gate of their own", "Registers", "count", init="text", gate="neutral"),
        module("cartridge", "trained keys and values", "Cartridge", "count", init="text"),
        module("neutral", "neutral residues: gated FFNs, silent off their subject", "NeutralResidues"),
        module("neutral-token", "neutral residues with a gate for each token", "NeutralResidues", gate="token"),
        module("locas", "a memory written as the corpus streams by once", "LocasGLU", "rank", "stream", scale=16.0),
        Method("rag", "rag", "passages found by BM25 in the window", needs="bm25s"),
        Method("context", "context", "the beginning of the corpus in the window"),
    )
})  # fmt: skip
DEFAULT = tuple(name for name in METHODS if name not in ("peft", "neutral-token"))


def methods_named(names: Sequence[str]) -> list[Method]:
    """Methods by name, `base` first whether named or not.

    Raises:
        AddendaError: there is none of that name (with the nearest), or one stands twice.
    """
    named = [METHODS[name] for name in names]
    chosen = [method for method in named if method.name != "base"]
    if len({method.name for method in named}) < len(named):
        raise AddendaError(f"a method is named twice in {', '.join(names)}")
    return [METHODS["base"], *chosen]


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
