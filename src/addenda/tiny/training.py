"""The training loop of the embedded base: exact to resume, endable at any time."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .engine import Crew
from .network import make_config, make_model
from .settings import Settings, rate

CHECKPOINT = "checkpoint.safetensors"


class Trainer:
    """Model, optimizers and position of a run; a checkpoint holds all three."""

    def __init__(self, work: Path, tokens: np.ndarray, settings: Settings, workers: int = 1) -> None:
        self.work, self.settings = work, settings
        self.short_rows = self.long_rows = 0  # rows used of each length: the position
        self.seconds = 0.0
        config = make_config(settings.variant, settings.vocab_size, **(settings.config or {}))
        self.master = make_model(config, settings.seed)
        self.named = dict(self.master.named_parameters())
        self._build_optimizers()
        self.crew = Crew(work, settings, tokens, workers)
        if (work / CHECKPOINT).exists():
            self.load(work / CHECKPOINT)
        self._copy_to_fast()

    def _build_optimizers(self) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"the recipe needs torch 2.9 or later for Muon; this is {torch.__version__}")
        matrices, other = [], []
        for name, p in self.named.items():
            (other if p.ndim != 2 or "embed" in name else matrices).append(p)
        self.optimizers = {
            # Muon learns clearly more per token than AdamW at this size.
            "matrix": torch.optim.Muon(matrices, lr=1.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            "other": torch.optim.AdamW(other, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
        }

    @property
    def seen(self) -> int:
        """Tokens trained on so far."""
        return self.short_rows * self.settings.short + self.long_rows * self.settings.long

    @property
    def done(self) -> bool:
        """Whether the run has reached its last token."""
        return self.seen >= self.settings.tokens

    @torch.no_grad()
    def _copy_to_fast(self) -> None:
        for name, p in self.crew.first.named.items():
            p.copy_(self.named[name])

    def step(self) -> float:
        """One optimizer step; returns its mean loss in nats per token."""
        s = self.settings
        factor = rate(self.seen, s)
        is_long = self.seen >= (1 - s.long_share) * s.tokens
        length = s.long if is_long else s.short
        first = self.long_rows if is_long else self.short_rows
        total = self.crew.run(length, first)
        for name, p in self.named.items():
            p.grad = self.crew.gradients[name]
        torch.nn.utils.clip_grad_norm_(self.named.values(), 1.0)
        for key, peak in (("matrix", s.lr_matrix), ("other", s.lr_other)):
            for group in self.optimizers[key].param_groups:
                group["lr"] = peak * factor
            self.optimizers[key].step()
        self._copy_to_fast()
        if is_long:
            self.long_rows += s.batch // length
        else:
            self.short_rows += s.batch // length
        return total / s.batch

    def save(self) -> None:
        """Writes the whole state beside the old one and swaps them in one move."""
        tensors = {f"model/{n}": p.detach() for n, p in self.named.items()}
        for key, optimizer in self.optimizers.items():
            for name, p in self.named.items():
                for field, value in optimizer.state.get(p, {}).items():
                    tensors[f"{key}/{field}/{name}"] = torch.as_tensor(value)
        position = {
            "short_rows": self.short_rows,
            "long_rows": self.long_rows,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
        }
        path = self.work / CHECKPOINT
        temporary = path.with_suffix(".tmp")
        save_file(tensors, temporary, metadata={"position": json.dumps(position)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Takes the state of a checkpoint up again; other settings than `tokens` must agree."""
        with safe_open(path, "pt") as file:
            position = json.loads(file.metadata()["position"])
            saved, mine = position["settings"], asdict(self.settings)
            differ = {k for k in mine if k in saved and k != "tokens" and saved[k] != mine[k]}
            if differ:
                raise ValueError(f"{path} was made with other settings: {sorted(differ)}")
            for key in file.keys():  # noqa: SIM118 - no mapping, it only has keys()
                kind, _, rest = key.partition("/")
                value = file.get_tensor(key)
                if kind == "model":
                    self.named[rest].copy_(value)
                else:
                    field, _, name = rest.partition("/")
                    self.optimizers[kind].state[self.named[name]][field] = value
        self.short_rows, self.long_rows = position["short_rows"], position["long_rows"]
        self.seconds = position["seconds"]


def count(text: str) -> int:
    """A number of tokens such as 40M, 500k or 12345."""
    units = {"k": 10**3, "m": 10**6, "b": 10**9}
    text = text.strip().lower()
    scale = units.get(text[-1:], 1)
    return int(float(text[:-1] if scale > 1 else text) * scale)


def read_control(trainer: Trainer) -> None:
    """Takes a new total from the file `total` of the work folder: tokens, or `now` to decay."""
    path = trainer.work / "total"
    if not path.exists():
        return
    text = path.read_text().strip()
    if text == "now":
        # The decay starts here: what has been seen is all but its share.
        text = str(int(trainer.seen / (1 - trainer.settings.decay_share)))
        path.write_text(text)
    if text:
        trainer.settings.tokens = count(text)


def train(
    trainer: Trainer,
    until_seconds: float | None = None,
    until_tokens: int | None = None,
    save_every: float = 240.0,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> str:
    """Trains until the end, a limit or a signal, saving on the way; returns why it stopped."""
    stop: list[str] = []
    handlers = {
        number: signal.signal(number, lambda n, frame: stop.append(signal.Signals(n).name))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    start = last_save = last = time.monotonic()
    steps = 0
    try:
        with (trainer.work / "loss.jsonl").open("a", encoding="utf-8") as log:
            while not stop:
                if steps % 10 == 0:
                    read_control(trainer)
                if trainer.done:
                    stop.append("done")
                    break
                loss = trainer.step()
                steps += 1
                now = time.monotonic()
                speed = trainer.settings.batch / (now - last)
                trainer.seconds += now - last
                last = now
                record = {
                    "tokens": trainer.seen,
                    "loss": round(loss, 4),
                    "rate": round(rate(trainer.seen, trainer.settings), 4),
                    "tokens_per_second": round(speed),
                    "seconds": round(trainer.seconds, 1),
                }
                log.write(json.dumps(record) + "\n")
                log.flush()
                if on_step:
                    on_step(record)
                if now - last_save > save_every:
                    trainer.save()
                    last_save = time.monotonic()
                if until_seconds and now - start > until_seconds:
                    stop.append("time limit")
                if until_tokens and trainer.seen >= until_tokens:
                    stop.append("token limit")
        trainer.save()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return stop[0]
