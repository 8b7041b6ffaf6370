"""Gradient: steps of AdamW on each chunk's loss; any kind can be written so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from addenda.core.errors import TrainingError
from addenda.core.module import KnowledgeModule
from addenda.core.registry import build
from addenda.writes.write_rule import Pace, WriteRule, Writing


class Steps(Writing):
    """Steps of AdamW."""

    def __init__(self, module: KnowledgeModule, pace: Pace) -> None:
        self.module, self.pace, self.passes = module, pace, pace.steps
        adamw: Any = build("optimizer", "adamw", {})
        self.optimizer = adamw.make(module.learning().values(), lr=pace.lr, weight_decay=pace.weight_decay)
        self.optimizers = {"optimizer": self.optimizer}

    def apply(self, tokens: int) -> None:
        """One step."""
        parameters = list(self.module.learning().values())
        if not math.isfinite(float(nn.utils.clip_grad_norm_(parameters, self.pace.clip))):
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(
                f"the gradient of '{self.module.name}' is not finite; its memory is as it was before this step. A smaller lr "
                f"(now {self.pace.lr:g}) or precision='fp32' may help"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class Gradient(WriteRule):
    """Steps of AdamW on each chunk's loss, and on what the module does to replay text; for every kind.

    Source: TempLoRA, Wang et al. 2024, arXiv:2401.11504; Locas 2026, arXiv:2602.05085, "Locas-GLU". Differs: the loss on
    replay text.
    """

    name: ClassVar[str] = "gradient"

    def over(self, module: KnowledgeModule, pace: Pace) -> Steps:
        """An optimizer of its own."""
        return Steps(module, pace)
