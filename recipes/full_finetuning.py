"""Full fine-tuning as a baseline: every weight of the base learns, from the very rows that a module would see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from addenda.encoding import Encoder
from addenda.objectives.head import Head
from addenda.objectives.objective import objective_named
from addenda.optimizers.adamw import adamw, load_optimizer_tensors, optimizer_tensors, rate
from addenda.plugging import Base
from addenda.scoring import cast
from addenda.texts import texts as open_texts
from addenda.writing import checkpoint
from addenda.writing.batches import Mixture, stack
from addenda.writing.packing import Feed, Stream
from recipes.common import Texts, point, precision, scores


class FullFinetuning:
    """One run, resumable from the checkpoints in `work`. The model is changed in place: load a fresh base for the next.

    Warm-up, cosine, decay and clipping are those that `addenda.train` has by default; weights are float32.
    """

    def __init__(self, base: Base, texts: Texts, *, lr: float, seed: int, rows: int, length: int, work: Path) -> None:
        self.base, self.texts, self.lr, self.rows, self.length, self.work = base, texts, lr, rows, length, work
        self.head = Head(base.model)
        encoder = Encoder(base.tokenizer, self.head.vocabulary, close=True)

        def feed(source: Any, code: int) -> Feed:
            options = {"length": length, "context": 0, "seed": seed, "code": code, "shuffle_tokens": 2**20}
            return Feed(Stream(open_texts(source), encoder, **options))

        self.mixture = Mixture({"full": feed(texts.corpus, 0)}, feed(texts.replay, 1), 0.1)
        self.names = {parameter: name for name, parameter in base.model.named_parameters()}
        self.optimizer = adamw(base.model.parameters(), lr=lr, weight_decay=0.01)
        self.points: list[dict[str, Any]] = []
        self.step = 0

    def run(self, tokens: int, *, points: int, tokens_scored: int) -> list[dict[str, Any]]:
        """Train on `tokens`, scoring the held-out texts `points` times along the way."""
        self._resume()
        bare = self._bare(tokens_scored)
        steps = tokens // (self.rows * self.length)
        while self.step < steps:
            self._one(steps)
            last = self.step == steps
            if last or self.step % max(1, steps // points) == 0:
                on = scores(self.base, self.texts, tokens=tokens_scored, length=self.length)
                self.points.append(point("training", self.step * self.rows * self.length, bare, on))
            if last or self.step % max(1, steps // 20) == 0:
                self._save()
        return self.points

    def _one(self, steps: int) -> None:
        batch = stack(self.mixture.take(self.rows), torch.device("cpu"))
        with cast(torch.device("cpu"), precision()):
            hidden = self.head.hidden(**batch.student())
            weights = batch.target_weights / batch.target_weights.sum()
            loss, _ = self.head.costs(
                objective_named("lm"), hidden.flatten(0, 1), batch.targets.flatten(), weights.flatten()
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.names, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate(self.step, steps, 0.05, 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    def _bare(self, tokens_scored: int) -> Any:
        from addenda import load_base

        fresh = load_base("tiny", dtype=torch.float32, attn_implementation=self.base.model.config._attn_implementation)
        return scores(fresh, self.texts, tokens=tokens_scored, length=self.length)

    def _save(self) -> None:
        tensors = {f"value.{name}": parameter.detach() for parameter, name in self.names.items()}
        tensors |= {f"optimizer.{k}": t for k, t in optimizer_tensors(self.optimizer, self.names).items()}
        state = {"position": self.mixture.position, "points": self.points, "lr": self.lr}
        self.work.mkdir(parents=True, exist_ok=True)
        checkpoint.write(self.work, self.step, state, tensors, keep=1)

    @torch.no_grad()
    def _resume(self) -> None:
        found = checkpoint.newest(self.work)
        if found is None:
            return
        self.step, self.points = found.step, found.state["points"]
        self.mixture.move_to(found.state["position"])
        for parameter, name in self.names.items():
            parameter.copy_(found.tensors[f"value.{name}"])
        moments = {k.removeprefix("optimizer."): t for k, t in found.tensors.items() if k.startswith("optimizer.")}
        load_optimizer_tensors(self.optimizer, moments, self.names)
