"""Registers: learned vectors per layer that attention reads through the base's own projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from addenda.core.contracts import AttentionAdapter, Reader, into
from addenda.core.site import Anatomy, Seam
from addenda.core.text_slots import TextSlots

Mode = Literal["drop", "sum", "avg", "stack"]


class RegisterAdapter(AttentionAdapter):
    """The registers R_l [S, D] of one layer, and for `gate="neutral"` its token gate and head scales.

    What becomes of the registers' own output, out_{l-1}, at the next layer is the mode: drop (nothing), sum
    (R_l + out), avg (half of that), stack (out and R_l side by side).
    """

    def __init__(self, count: int, width: int, heads: int, mode: Mode, gate: str, normalise: bool) -> None:
        super().__init__()
        self.mode = mode
        self.joint = gate == "joint"
        # zero registers read as zero where the base has no biases, and s is zero too: no gradient would ever flow
        self.registers = nn.Parameter(torch.zeros(count, width) if self.joint else torch.randn(count, width) * 0.02)
        self.carries = mode != "drop"
        self.normalise = normalise
        if gate == "neutral":
            # b above zero and s at zero: neutral whatever the start, and yet with a gradient
            self.gate_weight = nn.Parameter(torch.zeros(width))
            self.gate_bias = nn.Parameter(torch.ones(()))
            self.register_buffer("threshold", torch.zeros(()))
        if not self.joint:
            self.scale = nn.Parameter(torch.zeros(heads))
        self.token_gate = gate == "neutral"

    threshold: Tensor

    def states(self, carry: Tensor | None) -> Tensor:
        """The states [S', D] that enter this layer."""
        own = self.registers
        if carry is None or self.mode == "drop":
            return own
        if self.mode == "sum":
            return own + carry
        if self.mode == "avg":
            return (own + carry) / 2
        return torch.cat([carry, own.to(carry.dtype)], dim=0)

    def mix(self, x: Tensor) -> Tensor:
        """relu(w . x + b - threshold) [R, T, 1]; ones where the module's context gate does that work."""
        if not self.token_gate:
            return torch.ones_like(x[..., :1])
        score = into(x, self.gate_weight) @ self.gate_weight + self.gate_bias - self.threshold
        return torch.relu(score).unsqueeze(-1)

    def head_scale(self) -> Tensor:
        """s [H]."""
        return self.scale


@dataclass(frozen=True)
class Registers(TextSlots):
    """`count` learned vectors per layer, projected by the base's frozen key and value weights, without rotary position.

    `gate="joint"`: one softmax over tokens and registers. A zero key still takes softmax mass, so a fresh module is
    not neutral. `gate="neutral"`: out = attn(tokens) + relu(w.x + b) * s * attn(registers), before the output
    projection. `gate="context"`: the same with the module's context gate in place of the token gate. With either gate
    `init="zeros"` means small noise: with both registers and s at zero nothing could be learned.
    `init="text"` starts from the residual stream of the base over the first `count` tokens of a text.
    `normalise=False` lets registers enter attention without the input norm, as the original code did.

    Source: Boissin, Hervier, Picard, Sprauel 2025, "Modular LLMs: Learning with Registers". Differs: registers stand
    before the text in both directions, take the input norm, and keep no place in the text's positions.

    Measured: two million tokens of PubMed into `tiny`, 3 seeds, 128 registers from text: joint ones gain 0.155 nats per token
    and forget 0.081, those behind a token gate 0.154 and 0.044, a LoRA of nine times their size 0.621 and 0.223. Joint ones
    from zeros learn next to nothing. Pages: learning_forgetting, registers.
    """

    count: int = 128
    mode: Mode = "drop"
    init: Literal["zeros", "text"] = "zeros"
    gate: Literal["joint", "neutral", "context", "document"] = "joint"
    normalise: bool = True

    default_lr: ClassVar[float] = 3e-2
    starts: ClassVar[tuple[str, Literal["text"]]] = ("zeros", "text")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.mode in ("drop", "sum", "avg", "stack"), f"mode is drop, sum, avg or stack; got {self.mode!r}")
        self.check(
            self.gate in ("joint", "neutral", "context", "document"),
            f"gate is joint, neutral, context or document; got {self.gate!r}",
        )

    @property
    def default_local(self) -> float:
        """0.1 for token gates: with 1.0 most of their gates shut for good before they learned anything."""
        return 0.1 if self.gate == "neutral" else 0.0

    @property
    def fresh_is_neutral(self) -> bool:
        """Only with a softmax of their own."""
        return self.gate != "joint"

    @property
    def shared_softmax(self) -> bool:
        """With `gate="joint"`."""
        return self.gate == "joint"

    def adapters(self, anatomy: Anatomy) -> Mapping[str, RegisterAdapter]:
        """One set of registers per layer."""
        return {
            site.key: RegisterAdapter(self.count, anatomy.width, anatomy.heads, self.mode, self.gate, self.normalise)
            for site in anatomy.at(Seam.ATTENTION)
        }

    @property
    def module_gate(self) -> tuple[str, dict[str, Any]] | None:
        """With `gate="document"` and `gate="context"`; it reads a third of the way up."""
        return (self.gate, {"read_at": None}) if self.gate in ("document", "context") else None

    @property
    def gates_itself(self) -> bool:
        """With `gate="neutral"`."""
        return self.gate == "neutral"

    def start(self, adapters: Mapping[str, RegisterAdapter], ids: Tensor, reader: Reader) -> None:
        """Start from the residual stream over the first `count` tokens of `ids` [T].

        In mode sum only the first layer takes it: the layers above receive it as the output of the one below.
        """
        self.check_text(ids)
        streams = reader.hidden_states(ids[: self.count])
        with torch.no_grad():
            for number, (key, adapter) in enumerate(adapters.items()):
                if self.mode == "sum" and number > 0:
                    adapter.registers.zero_()
                else:
                    adapter.registers.copy_(streams[int(key.split(".")[1])])
