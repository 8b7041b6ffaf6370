"""Plain training, for baselines: parameters of a model learn from the very rows that a module would see."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from addenda.core.registry import asked_for
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from addenda.optimizers.optimizer import OptimizerMethod, load_optimizer_tensors, optimizer_tensors, rate
from addenda.plug.scoring import cast
from addenda.telling.interrupts import Interrupts
from addenda.text.encoding import Encoder
from addenda.text.texts import texts as open_texts
from addenda.writing.batches import Batch, Mixture, stack
from addenda.writing.keeping import part
from addenda.writing.loop import Run
from addenda.writing.packing import SHUFFLE, Feed, Stream
from addenda.writing.run_log import RunLog
from addenda.writing.settings import RunSettings


class PlainTraining(Run):
    """One run, resumable from the checkpoints in `work`. The model is changed in place: load a fresh one for the next.

    All its parameters learn that want a gradient; `seconds` are those of all calls of a resumed run, without what `after` took,
    and `loss` is the last step's, in nats per token. Warm-up, cosine, decay and clipping are those that `addenda.train` has by
    default. What is updated is float32: where the model's weights are narrower, they are copies of it.
    """

    remembered = (*Run.remembered, "kept")

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
        precision: Literal["fp32", "bf16"] = "fp32",
        shuffle_tokens: int = SHUFFLE,
        work: Path | None = None,
    ) -> None:
        super().__init__(RunSettings(precision=precision, keep=1), 0, RunLog(None), work)
        self.lr, self.rows, self.length = lr, rows, length
        self.head, self.lm = Head(model), asked_for(Objective, "lm")
        encoder = Encoder(tokenizer, self.head.vocabulary, close=True)

        def feed(source: Any, code: int) -> Feed:
            options: dict[str, Any] = {
                "length": length,
                "context": 0,
                "seed": seed,
                "code": code,
                "shuffle_tokens": shuffle_tokens,
            }
            return Feed(Stream(open_texts(source), encoder, **options))

        self.source = self.mixture = Mixture(
            {"plain": feed(corpus, 0)}, None if replay is None else feed(replay, 1), share
        )
        self.names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.masters = {parameter: _master(parameter) for parameter in self.names}
        self.updated = {self.masters[parameter]: name for parameter, name in self.names.items()}
        self.optimizer = asked_for(OptimizerMethod, "adamw").make(self.updated, lr=lr, weight_decay=0.01)
        self.device = next(iter(self.names)).device
        #: what else checkpoints keep, for `after`
        self.kept: dict[str, Any] = {}
        self.loss = torch.zeros(())
        self.identity = {"lr": lr, "seed": seed, "rows": rows, "length": length, "share": share}

    def run(self, tokens: int, after: Callable[[int, int], None] = lambda step, steps: None) -> None:
        """Train on `tokens`; `after` is called with the step's number, and the number of all, once it is taken."""
        self.steps, self.after = tokens // (self.rows * self.length), after
        self.identity["steps"] = self.steps
        self.resume()
        with Interrupts(self.promise) as interrupts:
            self.go(interrupts)

    def take(self) -> Batch:
        """The next batch."""
        return stack(self.mixture.take(self.rows), self.device)

    def write(self, rows: Batch) -> int:
        """One step of AdamW; of a GPU to its end: else what is measured would wait for it."""
        with cast(self.device, self.settings.precision):
            hidden = self.head.hidden(**rows.student())
            weights = rows.target_weights / rows.target_weights.sum()
            loss, _ = self.head.costs(self.lm, hidden.flatten(0, 1), rows.targets.flatten(), weights.flatten())
        loss.backward()
        self.loss = loss.detach()
        apart = [(parameter, master) for parameter, master in self.masters.items() if master is not parameter]
        for parameter, master in apart:
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.updated, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate(self.step, self.steps, 0.05, 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for parameter, master in apart:
                parameter.copy_(master)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.rows * self.length

    def measure(self) -> None:
        """What whoever began the run does after a step."""
        began = time.perf_counter()
        self.after(self.step, self.steps)
        self.aside += time.perf_counter() - began

    def check(self) -> None:
        """A loss that is no number is part of what a sweep finds out."""

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, in float32, and moments."""
        tensors = {f"value.{name}": master.detach() for master, name in self.updated.items()}
        return tensors | {f"optimizer.{k}": t for k, t in optimizer_tensors(self.optimizer, self.updated).items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `tensors` gave."""
        for parameter, name in self.names.items():
            self.masters[parameter].copy_(tensors[f"value.{name}"])
            parameter.copy_(tensors[f"value.{name}"])
        load_optimizer_tensors(self.optimizer, part(tensors, "optimizer."), self.updated)


def _master(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """What is updated in its place: itself, or a float32 copy, in which a small step is not rounded away."""
    if parameter.dtype in (torch.float32, torch.float64):
        return parameter
    return torch.nn.Parameter(parameter.detach().float())
