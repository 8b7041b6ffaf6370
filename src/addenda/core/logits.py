"""What a language model does to its output embedding's result before it calls it logits, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: what is left of the room under a cap: atanh ends before 1
ROOM = 1e-4


@dataclass(frozen=True)
class Finish:
    """A factor and a soft cap, as a config says them; None where there is none."""

    factor: float | None = None
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> Finish:
        """As transformers' configs name them."""
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        times, over = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
        factor = None if times is None and over is None else (times or 1.0) / (over or 1.0)
        return cls(factor, getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits from what the output embedding gives."""
        if self.factor is not None:
            logits = logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def back(self, log_p: Tensor) -> Tensor:
        """What the output embedding would have to give for these log-probabilities; under a cap none is below the best by more.

        Args:
            log_p: [..., V]; under a cap they come back less their largest.
        """
        if self.cap is not None:
            log_p = log_p - log_p.amax(-1, keepdim=True).detach()
            log_p = torch.atanh((log_p / self.cap).clamp(min=ROOM - 1.0)) * self.cap
        return log_p if self.factor is None else log_p / self.factor
