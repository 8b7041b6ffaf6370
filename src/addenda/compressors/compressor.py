"""What a compressor promises: a module goes in, a smaller one of some kind comes out, gate and all else as they were."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from addenda.core.activations import Activation, activation
from addenda.core.contracts import Adapter, Kind
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.method import Method
from addenda.core.site import Anatomy
from addenda.core.units import Units


def _nothing() -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Whole:
    """What is compressed: a module's kind and its adapters by site key, without the gate that it may stand behind.

    `anatomy` is the base's, with the sites alone that the module may touch. `seen` gives, to compressors that read, what enters
    each site on calibration text [N, D_in]: to be asked for site by site and let go, for few are held at once, and after all
    that can be refused, for the text is read at the first look. Who works long calls `tick` between its steps: it may be
    stopped there.
    """

    kind: Kind
    adapters: Mapping[str, Adapter]
    anatomy: Anatomy
    seen: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    tick: Callable[[], None] = _nothing

    def units(self) -> dict[str, Units]:
        """The hidden units at each site, which stand behind no gate per token, or behind one that can be taken over.

        Raises:
            UnsupportedError: the module is made of something else; says why.
        """
        for adapter in self.adapters.values():
            adapter.gate_row()
        return {key: adapter.units() for key, adapter in self.adapters.items()}

    def phi(self, units: Units) -> Activation:
        """The activation of units: their own, else that of the base's FFNs.

        Raises:
            UnsupportedError: it is not known here.
        """
        name = units.activation or (self.anatomy.ffn.activation if self.anatomy.ffn is not None else "")
        phi = activation(name)
        if phi is None:
            raise UnsupportedError(f"the activation '{name}' of its units is not known here")
        return phi


#: what comes out: a kind with its options, and its adapters by site key, in float32
Compressed = tuple[Kind, Mapping[str, Adapter]]


class Compressor(Method):
    """Options of one compressor; a subclass is a frozen dataclass in a file of its own under `compressors/`.

    It knows kinds by what they promise alone: `Adapter.units` and `factors`, `Kind.of_units` and `of_factors`.
    """

    stage = "compressor"

    @property
    def reads(self) -> int:
        """How many tokens of calibration text it wants to have seen at each site; 0: none."""
        return 0

    @abstractmethod
    def compress(self, whole: Whole) -> Compressed:
        """A smaller module that computes nearly the same; what is given is left as it is.

        Raises:
            UnsupportedError: it cannot compress modules of that kind; says why.
            AddendaError: its options do not fit this module.
        """

    def check(self, holds: bool, message: str) -> None:
        """Raise a clear error unless `holds`; for `__post_init__`."""
        if not holds:
            raise AddendaError(f"{self.called()}: {message}")
