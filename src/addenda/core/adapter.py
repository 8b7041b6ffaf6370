"""Adapters: what a module puts at one site of each seam; contracts.py, where one begins to read, gives them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from addenda.core.contribution import Contribution, both, is_single, on_live, times
from addenda.core.errors import UnsupportedError
from addenda.core.moments import Moment
from addenda.core.site import Seam
from addenda.core.units import Units


class Adapter(nn.Module, ABC):
    """What a module puts at one site."""

    seam: ClassVar[Seam]
    #: whether it adds exactly nothing with all its parameters at zero, so that it can be removed by making them so
    vanishes: ClassVar[bool] = False
    #: whether it may keep state for each row as the text is read
    stateful: ClassVar[bool] = False

    def constrain(self) -> None:
        """Bring parameters back to where the kind allows them; called after every step of any optimizer."""

    def fold(self) -> Units | Tensor:
        """What the base's own weights must take up to compute what this adapter adds, exactly, in float32.

        FFN kinds give `Units` that stand beside the base's own; linear kinds a matrix [D_out, D_in] to add.

        Raises:
            UnsupportedError: no plain weight computes it; says why.
        """
        raise UnsupportedError("it has no form that the base's own weights could take up")

    def units(self) -> Units:
        """The hidden units that this adapter beside an FFN is made of, whatever gate stands before them; refused as `fold` is."""
        units = self.fold()
        if not isinstance(units, Units):
            raise UnsupportedError("it is no block of hidden units beside an FFN")
        return units

    def factors(self) -> tuple[Tensor, Tensor]:
        """B [D_out, r] and A [r, D_in], float32, of an adapter beside a linear layer that adds B A x.

        Raises:
            UnsupportedError: it adds no such product.
        """
        raise UnsupportedError("it is no product of two matrices beside a linear layer")

    def gate_row(self) -> tuple[Tensor, Tensor] | None:
        """w [D] and threshold [] of its gate per token, relu(w . x - threshold); None where it has no gate of its own.

        Raises:
            UnsupportedError: its gate has another form.
        """
        return None

    def task_vector(self) -> Tensor:
        """What it adds, as numbers that stand for the same in every adapter of the kind at this site, and add up as it does.

        Float32, of any one shape. Methods that combine modules number by number ask for it.

        Raises:
            UnsupportedError: there are no such numbers; says why.
        """
        raise UnsupportedError("the numbers of one module do not stand for the same as those of another")

    def set_task_vector(self, vector: Tensor) -> None:
        """Add what a task vector says, as nearly as its size allows; of an adapter that `Kind.joined` made room in."""
        raise UnsupportedError("its kind does not say how an adapter is made from a task vector")

    def task_moments(self, moments: Mapping[str, Moment]) -> Tensor:
        """Mean squared gradient of the task vector, of its shape, from that of the parameters by name."""
        raise UnsupportedError("its kind does not say what second moments its task vectors have")

    def shared(self) -> dict[str, Tensor]:
        """Tensors that nothing trains and that must be equal in adapters whose task vectors are to be combined."""
        return {}

    def add_up(self, parts: Sequence[tuple[float, Self]]) -> None:
        """Become what weighted adapters of this site add together, exactly; it was made by `Kind.joined`."""
        raise UnsupportedError("its kind does not say how adapters are added up")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the adapter's parameters; of its buffers, where it has none."""
        return self._any().dtype

    @property
    def device(self) -> torch.device:
        """The device of the adapter's parameters; of its buffers, where it has none."""
        return self._any().device

    def _any(self) -> Tensor:
        """One of its parameters, or buffers."""
        for own in (self._parameters, self._buffers):  # asked at every site of every token: parameters() is slow
            for tensor in own.values():
                if tensor is not None:
                    return tensor
        return next(chain(self.parameters(), self.buffers()))


class AddingAdapter(Adapter):
    """An adapter that adds `delta(x)` to its site's output. A subclass implements `delta`, and may say what is live."""

    @abstractmethod
    def delta(self, x: Tensor) -> Tensor:
        """The contribution at weight 1 for inputs [..., D_in]: [..., D_out]. Any token gate is applied inside."""

    def live(self, x: Tensor) -> Tensor | None:
        """Tokens [R, T] whose contribution can differ from zero; None when all can."""
        return None

    def contribution(
        self, x: Tensor, *, weight: float | Tensor = 1.0, mask: Tensor | None = None
    ) -> Contribution | None:
        """The weighted contribution for x [R, T, D_in], on live tokens alone where that is cheaper.

        `weight` is a number, [R, 1, 1] or [R, T, 1]; `mask` [R, T] is True where a token may be touched.
        None means that no token is live.
        """
        if isinstance(weight, Tensor) and is_single(x):
            weight = weight.item()
            if weight == 0.0:
                return None
        live = both(self.live(x), mask)
        if isinstance(weight, Tensor):
            live = both(live, (weight != 0).squeeze(-1).expand(x.shape[:-1]))
        return on_live(x, live, weight, self.delta)

    def forward(
        self, x: Tensor, y: Tensor, *, weight: float | Tensor = 1.0, state: Any = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return y plus the weighted contribution, and the state unchanged.

        Args:
            x: input of the base's submodule, after its norm, [R, T, D_in].
            y: its raw output, before any post-norm and before the residual, [R, T, D_out].
            weight: a number, [R, 1, 1] or [R, T, 1].
            state: None: an adapter that only adds has none.
            mask: [R, T], True where a token may be touched; None for all. In the base it is None: what is added to a pad
                no real token reads.
        """
        contribution = self.contribution(x, weight=weight, mask=mask)
        return (y if contribution is None else contribution.add_to(y)), state


class GatedAdapter(AddingAdapter):
    """An adding adapter whose contribution is a gate per token, relu(score - threshold), times the rest.

    A subclass implements `score` and `ungated`, and has the threshold as a buffer. The gate is computed once, the rest
    on tokens whose gate is open.
    """

    threshold: Tensor | None

    def fold(self) -> Units | Tensor:
        """Refused: a gate that opens and shuts by token has no place in plain weights."""
        raise UnsupportedError("it has a gate that opens and shuts by token, which plain weights cannot do")

    def gate_row(self) -> tuple[Tensor, Tensor] | None:
        """Refused where there is a gate; a subclass whose gate has that form gives it."""
        if self.threshold is None:
            return None
        raise UnsupportedError("its gate per token has a form of its own, which cannot be taken over")

    @abstractmethod
    def score(self, x: Tensor) -> Tensor | None:
        """What the gate cuts at its threshold, [...] for x [..., D_in]; None where there is no gate."""

    @abstractmethod
    def ungated(self, x: Tensor) -> Tensor:
        """The contribution [..., D_out] for a gate of one."""

    def gate(self, x: Tensor) -> Tensor | None:
        """The gate [..., 1], exactly zero on tokens that are left alone; None where there is none."""
        score = self.score(x)
        if score is None or self.threshold is None:
            return None
        return torch.relu(score - self.threshold).unsqueeze(-1)

    def delta(self, x: Tensor) -> Tensor:
        """The gated contribution [..., D_out]."""
        gate, out = self.gate(x), self.ungated(x)
        return out if gate is None else out * gate.to(out.dtype)

    def live(self, x: Tensor) -> Tensor | None:
        """Tokens [R, T] whose gate is open."""
        gate = self.gate(x)
        return None if gate is None else gate.squeeze(-1) != 0

    def contribution(
        self, x: Tensor, *, weight: float | Tensor = 1.0, mask: Tensor | None = None
    ) -> Contribution | None:
        """As for every adding adapter."""
        if self.threshold is None:
            return super().contribution(x, weight=weight, mask=mask)
        if mask is None and is_single(x):
            return self._single(x, weight)
        gate = self.gate(x)
        assert gate is not None
        if isinstance(weight, Tensor) or weight != 1.0:
            gate = gate * weight
        live = gate.squeeze(-1)
        return on_live(x, live if mask is None else (live != 0) & mask, gate, self.ungated)

    def _single(self, x: Tensor, weight: float | Tensor) -> Contribution | None:
        """The contribution for one token, its gate being a number: a decode step is mostly such small operations."""
        score = self.score(x)
        assert score is not None
        assert self.threshold is not None
        gate = score.item() - self.threshold.item()
        if gate <= 0.0:
            return None
        factor = gate * (weight.item() if isinstance(weight, Tensor) else weight)
        return None if factor == 0.0 else Contribution(times(self.ungated(x), factor))


class ClassifyingAdapter(AddingAdapter):
    """An adding adapter with a score per token that training teaches, by cross-entropy, to tell subject from replay."""

    @abstractmethod
    def classified(self, x: Tensor) -> Tensor:
        """The score [R, T] for x [R, T, D_in]: the log-odds that a token is of the subject."""


class ReplacingAdapter(Adapter):
    """An adapter that is given its site's output and returns another one, and may keep state as the text is read."""

    stateful = True

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weight: float | Tensor = 1.0,
        state: Any = None,
        mask: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Return the new output [R, T, D_out], and the state after the last token.

        `state` must not be changed in place: gradient checkpointing computes a forward again from the state before it.

        Args:
            x: input of the base's submodule, after its norm, [R, T, D_in].
            y: its raw output, before any post-norm and before the residual, [R, T, D_out].
            weight: a number, [R, 1, 1] or [R, T, 1]; where it is zero y is kept, whatever is returned.
            state: what the call before returned for these rows; None where a text begins. A tensor, rows first, or any
                object whose `select(rows)` gives the state of the rows in a LongTensor (on any device), in that order:
                beams reorder, batches repeat. A tensor is kept without its graph; an object must do so itself.
            mask: [R, T], True where the token is real; None when all are. A pad must leave the state as it was.
            starts: [R, T], True where a document of a packed row begins: what was read before is not its own. None where none
                does, but at the beginning of a text.
        """


class Own(Protocol):
    """What the base computes at a site, for an adapter that stands around it."""

    def __call__(self, needed: Tensor | None = None) -> Tensor:
        """The raw output [R, T, D_out], of the tokens where `needed` [R, T] is True at least; None: of all.

        The others are computed too wherever that is asked of the base for another reason; else they are zero.
        """
        ...

    def added(self, y: Tensor) -> Tensor:
        """What the layer adds to the residual stream for a raw output: after its post-norm, where there is one."""
        ...


class AroundAdapter(Adapter):
    """An adapter that stands around its site's own computation, and decides for which tokens it is run at all.

    Of all modules that a row selects one may stand around a site. The base is run on the tokens that are asked for where
    every row selects the module alone, at weight 1, and values may be looked at; else on the whole batch.
    """

    stateful = True

    @abstractmethod
    def around(
        self,
        x: Tensor,
        residual: Tensor,
        base: Own,
        *,
        note: Tensor | None = None,
        state: Tensor | None = None,
        mask: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the output [R, T, D_out] at weight 1, a note for the module's next site, and the state after the last token.

        Args:
            x: input of the base's submodule, after its norm, [R, T, D_in].
            residual: the residual stream that the output will be added to, [R, T, D].
            base: gives the site's own output.
            note: [R, T, ...], what the module's site below noted in this forward; None at the first.
            state: [R, n], what the call before returned, zero in rows that have none yet; None where every text begins.
            mask: [R, T], True where the token is real; None when all are. A pad must leave the state as it was.
            starts: [R, T], True where a document of a packed row begins; None where none does, but at a text's beginning.
        """

    def fold(self) -> Units | Tensor:
        """Refused: weights compute the same for every token."""
        raise UnsupportedError("it decides for each token what the base computes, which plain weights cannot do")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Never called: the site asks `around`."""
        raise NotImplementedError("adapters around a site are asked through around()")


class HeadAdapter(Adapter):
    """An adapter that has a say in the next token: its own distribution is mixed with the base's, and the body is untouched.

    p = (1 - s) p_base + s p_own, where p_own is what the base's own head makes of its last state plus `told(x)`. Several
    modules' shares add up, to 1 at most.
    """

    seam = Seam.HEAD
    #: key of the site whose input it reads
    reads: str
    #: s, the mixing share at weight 1: a number from 0 to 1, a buffer
    share: Tensor

    @abstractmethod
    def told(self, x: Tensor) -> Tensor:
        """What is added to the last state [R, T, D] for x [R, T, D]; a token where it is all zero is left to the base."""

    def fold(self) -> Units | Tensor:
        """Refused: plain weights have no place for a second distribution."""
        raise UnsupportedError(
            "it mixes a distribution of its own with the base's, for which plain weights have no place"
        )
