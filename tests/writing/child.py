"""A training run in a process of its own, which stops where the test wants to send it a signal.

    python child.py OUT WHERE

WHERE is `step` (in the middle of step 7, checkpoints being written every second step) or `write` (in the middle of
writing the checkpoint of step 6). The process tells that it is there by making the file OUT.here, and waits.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from pico import pico, pico_tokenizer

import addenda
from addenda.writing import checkpoint
from addenda.writing.signals import Interrupts, TrainingStopped
from addenda.writing.step import Stepper

MEDICAL = [f"the heart and the liver of patient {n} is treated with drug {n % 7}. " * 4 for n in range(40)]
GENERAL = [f"A river runs in the town {n} and on to the sea; {n % 5} boats! " * 4 for n in range(20)]
RUN: dict[str, Any] = {
    "corpus": MEDICAL,
    "replay": GENERAL[:15],
    "replay_share": 0.25,
    "tokens": 12 * 4 * 32,
    "length": 32,
    "batch_rows": 4,
    "shuffle_tokens": 512,
    "lr": 1e-2,
    "log": False,
    "validation": {"learning": MEDICAL[:3], "forgetting": GENERAL[15:]},
    "validate_every": 3,
    "patience": 99,
    "checkpoint_every": 2,
}


def make() -> addenda.Base:
    torch.set_num_threads(1)
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    base.new("a", addenda.NeutralResidues(width=8))
    return base


def wait(here: Path) -> None:
    """Say that the place is reached, and wait for a signal; what it does is the run's own business."""
    here.touch()
    seen: list[Interrupts] = [thing for thing in _interrupts if thing.seen is not None]
    while not seen:
        time.sleep(0.01)
        seen = [thing for thing in _interrupts if thing.seen is not None]


_interrupts: list[Interrupts] = []


def stop_in_step(here: Path) -> None:
    original = Stepper.take

    def take(self: Stepper, step: int, passes: Any) -> Any:
        if step == 6:
            wait(here)
        return original(self, step, passes)

    Stepper.take = take  # type: ignore[method-assign]


def stop_in_write(here: Path) -> None:
    original = checkpoint.write_tensors

    def write(path: Path, *args: Any) -> str:
        if "step" in path.parent.name or len(checkpoint.folders(path.parents[1])) < 2:
            return original(path, *args)
        path.write_bytes(b"half of it")
        wait(here)
        path.unlink()
        return original(path, *args)

    checkpoint.write_tensors = write  # type: ignore[assignment]


def main(out: Path, where: str) -> int:
    here = out.with_name(out.name + ".here")
    {"step": stop_in_step, "write": stop_in_write}[where](here)
    enter = Interrupts.__enter__

    def remember(self: Interrupts) -> Interrupts:
        _interrupts.append(self)
        return enter(self)

    Interrupts.__enter__ = remember  # type: ignore[method-assign]
    try:
        addenda.train(make(), "a", out=out, **RUN)
    except TrainingStopped as stopped:
        print(stopped)
        return 7
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
