"""Full fine-tuning as a baseline: every weight of the base learns, from the very rows that a module would see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from addenda.plug.base import Base
from addenda.writing.plain import PlainTraining
from recipes.common import Texts, load, point, precision, scores


class FullFinetuning:
    """One run, resumable from the checkpoints in `work`. The model is changed in place: load a fresh base for the next."""

    def __init__(self, base: Base, texts: Texts, *, lr: float, seed: int, rows: int, length: int, work: Path) -> None:
        self.base, self.texts, self.length, self.rows = base, texts, length, rows
        self.training = PlainTraining(
            base.model, base.tokenizer, texts.corpus, texts.replay, lr=lr, seed=seed, rows=rows, length=length,
            precision=precision(), work=work,
        )  # fmt: skip

    def run(self, tokens: int, *, points: int, tokens_scored: int) -> list[dict[str, Any]]:
        """Train on `tokens`, scoring the held-out texts `points` times along the way."""
        bare = self._bare(tokens_scored)

        def after(step: int, steps: int) -> None:
            if step == steps or step % max(1, steps // points) == 0:
                on = scores(self.base, self.texts, tokens=tokens_scored, length=self.length)
                scored = point("training", step * self.rows * self.length, bare, on)
                self.training.kept["points"] = [*self.training.kept.get("points", []), scored]

        self.training.run(tokens, after)
        return self.training.kept.get("points", [])

    def _bare(self, tokens_scored: int) -> Any:
        fresh = load(attn_implementation=self.base.model.config._attn_implementation)
        return scores(fresh, self.texts, tokens=tokens_scored, length=self.length)
