"""Ternary: every weight of a side FFN becomes -1, 0 or 1 times a scale per unit, fitted to what the module adds on a text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from addenda.compressors.compressor import Compressed, Compressor, Whole
from addenda.core.registry import build_kind
from addenda.core.ternary import ROUNDS, rounded, through
from addenda.core.units import Units

#: tokens that are read, and of each step
TOKENS, ROWS = 4096, 256


@dataclass(frozen=True)
class Ternary(Compressor):
    """Side FFNs to 1.6 bits a weight: files nearly twenty times smaller than in float32.

    Each row is rounded to a scale times {-1, 0, 1}, the scale being fitted to the rounding in `rounds` rounds (0: mean |w|,
    as published). Then `steps` steps of Adam, layer by layer, move what is rounded so that the units add on calibration text
    what they added before; gradients look through the rounding (straight-through). `lr` is in shares of a matrix's mean |w|.

    Source: MoTE 2025 ("Mixture of Ternary Experts"), from its abstract: s = mean |W|, W_q = s clip(round(W/s), -1, 1),
    straight-through gradients. Differs: a trained module is rounded, layer by layer, in place of training experts as ternary
    ones; a scale per unit, fitted; no routing.

    Measured: `tiny`, 1 seed, French and PubMed, 32,768 tokens, a side FFN of 5% of the base: at 9% of its bytes it keeps 0.607
    of 0.630 and 0.075 of 0.080 nats per token; without steps 0.498 and 0.062, with the published scale too (`rounds=0`) 0.262
    and 0.029. A plain FFN of three quarters of these bytes, trained as long, gains 0.181 and 0.028.
    """

    steps: int = 200
    lr: float = 0.02
    rounds: int = ROUNDS
    seed: int = 0

    name: ClassVar[str] = "ternary"

    def __post_init__(self) -> None:
        self.check(self.steps >= 0, f"steps is a number of steps, 0 for none; got {self.steps}")
        self.check(self.lr > 0, f"lr must be positive; got {self.lr}")
        self.check(0 <= self.rounds <= 100, f"rounds is from 0 to 100; got {self.rounds}")

    @property
    def reads(self) -> int:
        """Some thousands of tokens, where it takes steps."""
        return TOKENS if self.steps else 0

    def compress(self, whole: Whole) -> Compressed:
        """The same units, ternary."""
        units = whole.units()
        if self.steps:
            seen = whole.seen  # a site that did not run on the text stays as it is rounded
            units = {key: self._fitted(each, whole, seen[key]) if key in seen else each for key, each in units.items()}
        made = {key: self._rounded(each) for key, each in units.items()}
        return build_kind("TernaryUnits", {}).of_units(whole.anatomy, made, whole.adapters)

    def _rounded(self, units: Units) -> Units:
        def plain(rows: Tensor) -> Tensor:
            signs, scale = rounded(rows.double(), self.rounds)
            return (signs * scale[:, None]).float()

        gate = None if units.gate is None else plain(units.gate)
        return replace(units, up=plain(units.up), values=plain(units.values), gate=gate)

    @torch.enable_grad()
    def _fitted(self, units: Units, whole: Whole, x: Tensor) -> Units:
        """Units that, once they are rounded, add to inputs x [N, D] nearly what `units` do."""
        phi = whole.phi(units)
        with torch.no_grad():
            wanted = units.output(x, phi)
        if not bool(wanted.any()):  # it adds nothing here: there is nothing to fit
            return units
        parts = {"up": units.up, "values": units.values} | ({} if units.gate is None else {"gate": units.gate})
        free = {name: rows.clone().requires_grad_() for name, rows in parts.items()}
        rates = [self.lr * float(rows.detach().abs().mean()) for rows in free.values()]
        groups = [{"params": [rows], "lr": rate} for rows, rate in zip(free.values(), rates, strict=True)]
        optimizer, draw = torch.optim.Adam(groups), torch.Generator().manual_seed(self.seed)
        for step in range(self.steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / self.steps)
            chosen = torch.randint(len(x), (ROWS,), generator=draw).to(x.device)
            now = replace(units, **{name: through(rows, self.rounds) for name, rows in free.items()})
            loss = (now.output(x[chosen], phi) - wanted[chosen]).square().mean() / wanted.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            whole.tick()
        return replace(units, **{name: rows.detach() for name, rows in free.items()})
