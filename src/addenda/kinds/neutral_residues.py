"""Neutral Residues: a gated FFN beside each FFN that outputs zero on the base's original domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addenda.core.contracts import ClassifyingAdapter, GatedAdapter, Kind, into
from addenda.core.errors import UnsupportedError
from addenda.core.products import product
from addenda.core.site import Anatomy, Seam
from addenda.core.sized import SizedKind, stack_units, wider
from addenda.core.units import Units


class NeutralAdapter(GatedAdapter):
    """delta(x) = g(x) * W_o( silu(W_g x) * (W_i x) ), g(x) = relu(w . x - threshold).

    Without a router (`token_gate=False`) g is 1, and the module's context gate does its work. `W_g` and `W_i` are
    stacked in `up` [2F, D], so that they cost one product.
    """

    seam = Seam.FFN
    vanishes = True

    def __init__(self, width: int, hidden: int, layers: int, token_gate: bool, he: bool = False) -> None:
        super().__init__()
        # small: variance 1/(dL), section 3.3 of the paper
        std = (width * layers) ** -0.5
        self.up = nn.Parameter(torch.randn(2 * hidden, width) * ((2 / width) ** 0.5 if he else std))
        self.down = nn.Parameter(torch.zeros(width, hidden))
        self.router = nn.Parameter(torch.randn(width) * std) if token_gate else None
        self.register_buffer("threshold", torch.zeros(()) if token_gate else None)
        self.threshold: Tensor | None

    def score(self, x: Tensor) -> Tensor | None:
        """w . x [...]."""
        return None if self.router is None else into(x, self.router) @ self.router

    def ungated(self, x: Tensor) -> Tensor:
        """W_o( silu(W_g x) * (W_i x) ) [..., D]."""
        gate, value = product(into(x, self.up), self.up).chunk(2, dim=-1)
        return product(F.silu(gate) * value, self.down)

    def gate_row(self) -> tuple[Tensor, Tensor] | None:
        """w and the threshold."""
        return None if self.router is None or self.threshold is None else (self.router.detach(), self.threshold)

    def units(self) -> Units:
        """The adapter's units without their gate, activated by silu."""
        return Units.stacked(self.up, self.down.T, activation="silu")

    def add_up(self, parts: Sequence[tuple[float, Self]]) -> None:
        """All units side by side, weights in what they add."""
        stack_units(self.up, self.down, [(weight, part.up, part.down) for weight, part in parts])


class SigmoidAdapter(NeutralAdapter, ClassifyingAdapter):
    """delta(x) = g(x) * W_o( silu(W_g x) * (W_i x) ), g(x) = sigmoid(w . x + b), w and b starting at zero.

    No token is left alone: g is small at best. It has no threshold; training teaches w . x + b by cross-entropy.
    """

    def __init__(self, width: int, hidden: int, layers: int, he: bool = False) -> None:
        super().__init__(width, hidden, layers, token_gate=False, he=he)
        self.router = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def score(self, x: Tensor) -> Tensor:
        """w . x + b [...]."""
        return into(x, self.router) @ self.router + self.bias

    def gate_row(self) -> tuple[Tensor, Tensor] | None:
        """Refused."""
        raise UnsupportedError(
            "its gate is a sigmoid, which is never shut, and only gates with a threshold are taken over"
        )

    def classified(self, x: Tensor) -> Tensor:
        """w . x + b [R, T]."""
        return self.score(x)

    def gate(self, x: Tensor) -> Tensor:
        """The gate [..., 1]."""
        return torch.sigmoid(self.score(x)).unsqueeze(-1)

    def live(self, x: Tensor) -> None:
        """None: the gate is open on all tokens."""


@dataclass(frozen=True)
class NeutralResidues(SizedKind):
    """Parallel gated FFN adapters that stay silent off their subject.

    Give `extra`, a share of the base's parameters (the paper uses 0.2), or `width`, hidden units per layer.

    | gate | what it does |
    |---|---|
    | `"document"` (default, ours) | one for the module: a sequential test, fitted before training; quick to open and to shut |
    | `"context"` (ours) | one for the module: an average over the document so far; slow where subjects change |
    | `"token"` (the paper's) | a gate for each token and layer |
    | `"sigmoid"` | the paper's rival: for each token and layer, taught by cross-entropy; leaves no token bit-equal |

    A module's own gate reads layer `read_at`, and the module acts from there on: `"early"` is layer 3, or a third of the way
    up in bases of fewer than twelve layers; None a third of the way up, as in modules of the first versions.
    `addenda.calibrate` sets the threshold anew, so that a stated share of a text is left bit-equal.
    `init="he"` draws the input matrices with He's variance 2/width, `"small"` with the
    paper's 1/(width * layers), which stays near the base longer and learns less from as many tokens.

    Source: Talla, Grave, Jegou 2025, "Neutral Residues: Revisiting Adapters for Model Extension", ICML,
    arXiv:2410.02744. Differs: the document and context gates, He's start, and the threshold of all gates that shut.

    Measured: `tiny`, 100,000 tokens, 3 seeds, 20% of the base, behind the document gate: gains 1.16 of what a LoRA of equal
    size does on French and 0.89 on PubMed, and forgets 0.005 nats per token at most, in one seed, where LoRA forgets up to
    0.18. 86% of the worst kind of general text stays bit-equal. Page: gates.
    """

    gate: Literal["token", "context", "document", "sigmoid"] = "document"
    read_at: int | Literal["early"] | None = "early"
    init: Literal["small", "he"] = "he"

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 3e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            self.gate in ("token", "context", "document", "sigmoid"),
            f"gate is 'token', 'context', 'document' or 'sigmoid'; got {self.gate!r}",
        )
        chosen = isinstance(self.read_at, int)
        self.check(not chosen or not self.gates_itself, "read_at belongs to gate='context' and gate='document'")
        self.check(self.init in ("small", "he"), f"init is 'small' or 'he'; got {self.init!r}")

    @property
    def default_local(self) -> float:
        """1.0 for token gates; the others are shut by their own penalty, and the loss would only slow learning."""
        return 1.0 if self.gate == "token" else 0.0

    def adapters(self, anatomy: Anatomy) -> Mapping[str, NeutralAdapter]:
        """One adapter beside each FFN."""
        sites, hidden = anatomy.at(Seam.FFN), self.hidden(anatomy, 3 * anatomy.width)
        sizes, he = (anatomy.width, hidden, anatomy.layers), self.init == "he"
        if self.gate == "sigmoid":
            return {site.key: SigmoidAdapter(*sizes, he=he) for site in sites}
        return {site.key: NeutralAdapter(*sizes, token_gate=self.gate == "token", he=he) for site in sites}

    def joined(self, count: int, anatomy: Anatomy) -> Kind:
        """More hidden units, where none of them stands behind a gate of its own layer.

        Raises:
            UnsupportedError: with `gate="token"` and `gate="sigmoid"`.
        """
        if self.gates_itself:
            raise UnsupportedError(f"gate={self.gate!r} is one for all units of a layer, and each module has its own")
        return wider(self, count, anatomy)

    @property
    def module_gate(self) -> tuple[str, dict[str, Any]] | None:
        """With `gate="document"` and `gate="context"`."""
        return None if self.gates_itself else (self.gate, {"read_at": self.read_at})

    @property
    def gates_itself(self) -> bool:
        """With `gate="token"` and `gate="sigmoid"`."""
        return self.gate in ("token", "sigmoid")
