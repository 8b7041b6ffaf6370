"""A slow copy of a module, the running mean of the one that is trained: it is what is validated and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.module import KnowledgeModule
from addenda.core.site import Seam
from addenda.penalties.penalty import Pass, Penalty, State, standing_in


@dataclass(frozen=True)
class ILoRA(Penalty):
    """A slow copy of the module is kept, not the one that is trained; on replay the two should say the same.

    After each step slow <- decay * slow + (1 - decay) * fast. On replay rows the loss has one term more: `weight` times the mean
    square of what fast lacks of slow, over the outputs of all layers. As replay give text of what was learned before, to a kind
    without a gate and with `local=0`. `ilora(weight=0)` is the slow copy alone, and needs no replay. At `decay=0` slow is fast;
    at 1 it stays.

    Source: I-LoRA 2024 (LLMCL). Defaults are its code's, which its text does not tell: a decay of 0.25, so that slow follows at
    once (what the text means is near 0.99; try both), min(1 - 1 / (steps + 1), decay) over all steps of the module's trainings,
    and `target="max"`, max(fast, slow) for each number. `target="slow"` is the text's. Differs: any kind; a later training starts
    fast from slow.

    Measured: French, then 16,384 tokens of PubMed with a tenth of French replay, into one LoRA of rank 8 on `tiny` (n=1 seed,
    CPU): with the code's defaults no gain over replay alone, 0.258 nats of French forgotten at 1.020 of PubMed learned by both
    (without replay 0.98 are forgotten). A slower copy was not measured.
    """

    decay: float = 0.25
    weight: float = 1.0
    target: Literal["max", "slow"] = "max"

    name: ClassVar[str] = "ilora"
    follows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise AddendaError(f"ilora: decay is from 0 to 1; got {self.decay}")
        if not 0 <= self.weight < math.inf:
            raise AddendaError(f"ilora: weight is not negative, and finite; got {self.weight}")

    @property
    def replayed(self) -> bool:
        """The loss is taken on replay."""
        return self.weight > 0

    def fit(self, module: KnowledgeModule, earlier: Any) -> State:
        """The copy, equal at first, and the steps that the module was trained before.

        Raises:
            UnsupportedError: a module at the head, which changes no layer's output.
        """
        if self.weight > 0 and module.kind.seam is Seam.HEAD:
            raise UnsupportedError(
                f"'{module.name}' stands at the head and changes no layer's output, which ilora compares; take ilora(weight=0)"
            )
        slow = {f"slow.{name}": parameter.detach().clone() for name, parameter in module.learning().items()}
        return slow | {"steps": torch.tensor(sum(run.steps for run in module.card.training))}

    def loss(self, module: KnowledgeModule, state: State, seen: Pass) -> Tensor | None:
        """The mean square, over layers and numbers, by which the outputs of fast are off their target on replay."""
        if not self.weight or not seen.replay:
            return None
        with standing_in(module, self.shown(state)), torch.no_grad():
            slow = seen.states()
        parts = [self._off(a, b).square().mean().to(slow[0].device) for a, b in zip(seen.states(), slow, strict=True)]
        return seen.replay * self.weight * torch.stack(parts).mean()

    def _off(self, fast: Tensor, slow: Tensor) -> Tensor:
        off = fast.float() - slow.float()
        return off.clamp(max=0.0) if self.target == "max" else off

    @torch.no_grad()
    def after_step(self, module: KnowledgeModule, state: State) -> None:
        """Move slow towards fast."""
        state["steps"] += 1
        decay = 1.0 if self.decay == 1 else min(1 - 1 / float(state["steps"]), self.decay)
        for name, parameter in module.learning().items():
            state[f"slow.{name}"].lerp_(parameter, 1 - decay)

    def shown(self, state: State) -> dict[str, Tensor]:
        """The slow copy."""
        return {key.removeprefix("slow."): tensor for key, tensor in state.items() if key.startswith("slow.")}
