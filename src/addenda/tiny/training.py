"""The training run of the embedded base: its settings, its schedule, and its steps in the loop of every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from addenda.optimizers.optimizer import load_optimizer_tensors, optimizer_tensors
from addenda.plug.scoring import cast
from addenda.telling.interrupts import Interrupts
from addenda.tiny.network import make_model
from addenda.tiny.rows import Rows
from addenda.writing.keeping import part
from addenda.writing.loop import Run
from addenda.writing.run_log import RunLog
from addenda.writing.settings import RunSettings


@dataclass
class Settings:
    """What a run is made of; kept in its checkpoints, and only `tokens` may change on the way."""

    tokens: int = 40_000_000
    seed: int = 0
    batch: int = 16_384  # tokens of one optimizer step
    micro: int = 2_048  # tokens that go through the network at a time
    short: int = 512  # sequence length of most of the run
    long: int = 2_048  # and of its last tenth
    long_share: float = 0.1
    warmup: int = 600_000  # tokens
    decay_share: float = 0.25
    lr_matrix: float = 3e-3
    lr_other: float = 2e-3
    precision: Literal["fp32", "bf16"] = "bf16"
    config: dict[str, Any] | None = None  # changes to the network's sizes, for tests
    vocab_size: int = 8192


def rate(seen: int, settings: Settings) -> float:
    """Warm-up, stable, decay: the share of the full learning rate after `seen` tokens."""
    if seen < settings.warmup:
        return (seen + settings.batch) / (settings.warmup + settings.batch)
    left = (settings.tokens - seen) / (settings.decay_share * settings.tokens)
    return min(1.0, max(left, 0.0))


class Trainer(Run):
    """A run from its first step, or from the last checkpoint in `work`, to its last token."""

    remembered = (*Run.remembered, "short_rows", "long_rows")

    def __init__(self, work: Path, tokens: np.ndarray, settings: Settings) -> None:
        steps = -(-settings.tokens // settings.batch)
        log = RunLog(work, steps, show=True, task="making", name="the embedded base")
        super().__init__(RunSettings(keep=1), steps, log, work)
        self.chosen, self.short_rows, self.long_rows = settings, 0, 0  # rows used of each length: the position
        self.model: Any = make_model(settings.vocab_size, settings.seed, **settings.config or {})
        self.rows = {length: Rows(tokens, length, settings.seed) for length in {settings.short, settings.long}}
        self.names = {parameter: name for name, parameter in self.model.named_parameters()}
        matrices = [p for p, name in self.names.items() if p.ndim == 2 and "embed" not in name]
        other = [p for p in self.names if all(p is not matrix for matrix in matrices)]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            # Muon learns clearly more per token than AdamW at this size
            "matrix": torch.optim.Muon(matrices, lr=1.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            "other": torch.optim.AdamW(other, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
        }
        self.losses: list[float] = []
        self.identity = {name: value for name, value in asdict(settings).items() if name != "tokens"}

    def run(self) -> None:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            TrainingStopped: a signal came; the same run goes on from there.
            TrainingError: the checkpoint was made with other settings.
        """
        self.resume()
        with self.log, Interrupts(self.promise) as interrupts:
            self.go(interrupts)

    def take(self) -> Tensor:
        """The next rows [B, T + 1]: short ones, and at the end of the run long ones."""
        s = self.chosen
        late = self.read >= (1 - s.long_share) * s.tokens
        length, first = (s.long, self.long_rows) if late else (s.short, self.short_rows)
        count = s.batch // length
        if late:
            self.long_rows += count
        else:
            self.short_rows += count
        return self.rows[length].batch(first, count)

    def write(self, rows: Tensor) -> int:
        """One step of both optimizers, its gradient summed over small parts of the rows."""
        s, total = self.chosen, 0.0
        read = rows[:, 1:].numel()
        for few in rows.split(max(1, s.micro // (rows.shape[1] - 1))):
            targets = few[:, 1:].flatten()
            with cast(few.device, s.precision):
                logits = self.model(input_ids=few[:, :-1], use_cache=False).logits.flatten(0, 1)
            loss = cross_entropy(logits.float(), targets, reduction="sum") / read
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.names, 1.0)
        for key, peak in (("matrix", s.lr_matrix), ("other", s.lr_other)):
            self.optimizers[key].param_groups[0]["lr"] = peak * rate(self.read, s)
            self.optimizers[key].step()
            self.optimizers[key].zero_grad()
        self.losses.append(total)
        return read

    def record(self, speed: float) -> dict[str, Any]:
        """The mean loss since the last record, in nats per token."""
        losses, self.losses = self.losses, []
        return {"tokens": self.read, "loss": sum(losses) / len(losses), "tokens_per_second": round(speed)}

    def check(self) -> None:
        """Nothing: whoever makes a base watches its loss."""

    def state(self) -> dict[str, Any]:
        """All that changes between steps but tensors, and how many tokens were planned by then."""
        return super().state() | {"tokens": self.chosen.tokens}

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and moments."""
        tensors = {f"value.{name}": parameter.detach() for parameter, name in self.names.items()}
        for key, optimizer in self.optimizers.items():
            tensors |= {f"{key}.{name}": tensor for name, tensor in optimizer_tensors(optimizer, self.names).items()}
        return tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back, bit by bit, what `tensors` gave."""
        for parameter, name in self.names.items():
            parameter.copy_(tensors[f"value.{name}"])
        for key, optimizer in self.optimizers.items():
            mine = {p: self.names[p] for group in optimizer.param_groups for p in group["params"]}
            load_optimizer_tensors(optimizer, part(tensors, f"{key}."), mine)
