"""Adapters of the attention seam: what gives a site extra keys and values, and what chooses which of them a token sees."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from addenda.core.adapter import Adapter
from addenda.core.errors import UnsupportedError
from addenda.core.site import Seam
from addenda.core.state import KeyValues
from addenda.core.units import Units


class ChoosingAdapter(Adapter):
    """An adapter that adds nothing: it says which of its module's slots each token sees, at attention sites above it.

    What it has read of a row goes on from call to call, and begins anew with a document, and where the user begins to speak.
    """

    stateful = True

    @abstractmethod
    def choose(
        self, x: Tensor, state: Tensor | None = None, mask: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What is added to the scores of the slots [R, T, S] for each token, 0 at most, and the state after the last token.

        Args:
            x: input of the base's submodule, after its norm, [R, T, D].
            state: [R, m], what the call before returned; zero in rows that have none yet, None where every text begins.
            mask: [R, T], False on pads, which leave the state as it was.
            starts: [R, T], True where it begins anew; None where it does not, but at the beginning of a text.
        """

    def fold(self) -> Units | Tensor:
        """Refused: plain weights have no place for what it chooses among."""
        raise UnsupportedError("it chooses among slots of attention, for which plain weights have no place")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Never called: its site asks `choose`."""
        raise NotImplementedError("adapters that choose are asked through choose()")


class AttentionAdapter(Adapter):
    """An adapter that gives its attention site extra keys and values.

    Exactly one of `states` (hidden states that the base's own projections turn into keys and values) and
    `key_values` (keys and values as they are) is implemented.
    """

    seam = Seam.ATTENTION
    #: True: one softmax over tokens and slots. False: a softmax of its own, added through `mix`.
    joint: bool = True
    #: True: `states` needs the layer's output on the states of the layer before.
    carries: bool = False
    #: False: states enter attention without the layer's input norm.
    normalise: bool = True

    def fold(self) -> Units | Tensor:
        """Refused: plain weights have no place for keys and values."""
        raise UnsupportedError("it adds keys and values to attention, for which plain weights have no place")

    #: leading slots that are an attention sink; of all selected modules only the first brings its own.
    sinks: int = 0
    #: whether the module's `ChoosingAdapter` chooses among its slots; else every token sees all
    chosen: bool = False

    def states(self, carry: Tensor | None) -> Tensor | None:
        """Hidden states [S, D] that enter this layer, given the layer before's output on its own [S', D]."""
        return None

    def key_values(self) -> KeyValues | None:
        """Keys and values [G, S, K] as attention sees them, after rotary embedding and key norm."""
        return None

    def mix(self, x: Tensor) -> Tensor:
        """For `joint=False`: the token gate [R, T, 1] from the attention module's input x [R, T, D]."""
        raise NotImplementedError

    def head_scale(self) -> Tensor:
        """For `joint=False`: the scale of each head [H]."""
        raise NotImplementedError

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Never called: the attention function reads the adapter's slots."""
        raise NotImplementedError("attention adapters are read through states() or key_values()")
