"""Plain training, for baselines: parameters of a model learn from the very rows that a module would see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from addenda.objectives.head import Head
from addenda.objectives.lm import LanguageModelling
from addenda.optimizers.adamw import adamw
from addenda.optimizers.optimizer import load_optimizer_tensors, optimizer_tensors, rate
from addenda.plug.scoring import cast
from addenda.telling.interrupts import Stopped
from addenda.text.encoding import Encoder
from addenda.text.texts import texts as open_texts
from addenda.writing import checkpoint
from addenda.writing.batches import Mixture, stack
from addenda.writing.packing import SHUFFLE, Feed, Stream


class PlainTraining:
    """One run, resumable from the checkpoints in `work`. The model is changed in place: load a fresh one for the next.

    All its parameters learn that want a gradient; `seconds` are those of all calls of a resumed run, without what `after` took,
    and `loss` is the last step's, in nats per token. Warm-up, cosine, decay and clipping are those that `addenda.train` has by
    default. What is updated is float32: where the model's weights are narrower, they are copies of it.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        corpus: Any,
        replay: Any,
        *,
        lr: float,
        seed: int,
        rows: int,
        length: int,
        share: float = 0.1,
        precision: str = "fp32",
        shuffle_tokens: int = SHUFFLE,
        work: Path | None = None,
    ) -> None:
        self.lr, self.rows, self.length, self.precision, self.work = lr, rows, length, precision, work
        self.head = Head(model)
        encoder = Encoder(tokenizer, self.head.vocabulary, close=True)

        def feed(source: Any, code: int) -> Feed:
            options = {"length": length, "context": 0, "seed": seed, "code": code, "shuffle_tokens": shuffle_tokens}
            return Feed(Stream(open_texts(source), encoder, **options))

        self.mixture = Mixture({"plain": feed(corpus, 0)}, None if replay is None else feed(replay, 1), share)
        self.names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.masters = {parameter: _master(parameter) for parameter in self.names}
        self.updated = {self.masters[parameter]: name for parameter, name in self.names.items()}
        self.optimizer = adamw(self.updated, lr=lr, weight_decay=0.01)
        self.device = next(iter(self.names)).device
        #: what else checkpoints keep, for `after`
        self.kept: dict[str, Any] = {}
        self.step = 0
        self.seconds = 0.0
        self.loss = torch.zeros(())

    def run(self, tokens: int, after: Callable[[int, int], None] = lambda step, steps: None) -> None:
        """Train on `tokens`; `after` is called with the step's number, and the number of all, once it is taken."""
        self._resume()
        steps = tokens // (self.rows * self.length)
        while self.step < steps:
            before = self.mixture.position
            try:
                with self._timed():
                    self._one(steps)
            except Stopped:  # the step was not taken
                self.mixture.move_to(before)
                self._save()
                raise
            after(self.step, steps)
            if self.step == steps or self.step % max(1, steps // 20) == 0:
                with self._timed():
                    self._save()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Count what the block takes, of a GPU to its end: else `after` would wait for it."""
        began = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - began

    def _one(self, steps: int) -> None:
        batch = stack(self.mixture.take(self.rows), self.device)
        with cast(self.device, self.precision):
            hidden = self.head.hidden(**batch.student())
            weights = batch.target_weights / batch.target_weights.sum()
            loss, _ = self.head.costs(
                LanguageModelling(), hidden.flatten(0, 1), batch.targets.flatten(), weights.flatten()
            )
        loss.backward()
        self.loss = loss.detach()
        apart = [(parameter, master) for parameter, master in self.masters.items() if master is not parameter]
        for parameter, master in apart:
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.updated, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate(self.step, steps, 0.05, 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for parameter, master in apart:
                parameter.copy_(master)
        self.step += 1

    def _save(self) -> None:
        if self.work is None:
            return
        tensors = {f"value.{name}": master.detach() for master, name in self.updated.items()}
        tensors |= {f"optimizer.{k}": t for k, t in optimizer_tensors(self.optimizer, self.updated).items()}
        state = {"position": self.mixture.position, "lr": self.lr, "seconds": self.seconds, **self.kept}
        self.work.mkdir(parents=True, exist_ok=True)
        checkpoint.write(self.work, self.step, state, tensors, keep=1)

    @torch.no_grad()
    def _resume(self) -> None:
        newest = None if self.work is None else checkpoint.newest(self.work)
        if newest is None:
            return
        self.step = newest.step
        self.kept = {k: v for k, v in newest.state.items() if k not in ("position", "lr", "seconds")}
        self.seconds = newest.state.get("seconds", 0.0)
        self.mixture.move_to(newest.state["position"])
        for parameter, name in self.names.items():
            self.masters[parameter].copy_(newest.tensors[f"value.{name}"])
            parameter.copy_(newest.tensors[f"value.{name}"])
        moments = {k.removeprefix("optimizer."): t for k, t in newest.tensors.items() if k.startswith("optimizer.")}
        load_optimizer_tensors(self.optimizer, moments, self.updated)


def _master(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """What is updated in its place: itself, or a float32 copy, in which a small step is not rounded away."""
    if parameter.dtype in (torch.float32, torch.float64):
        return parameter
    return torch.nn.Parameter(parameter.detach().float())
