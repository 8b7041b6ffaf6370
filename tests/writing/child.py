"""Training runs in processes of their own, which stop where the test wants to send them a signal.

    python child.py OUT WHERE [OUT WHERE ...]

One process imports everything and forks one for each run. WHERE is `step` (in the middle of step 7, checkpoints being
written every second step) or `write` (in the middle of writing the checkpoint of step 6). A run tells that it is there
by writing its process id to OUT.here, and waits. What it says goes to OUT.told, how it ended to OUT.code.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.gates import document
from addenda.writing import checkpoint
from addenda.writing.signals import Interrupts, TrainingStopped
from addenda.writing.step import Stepper
from pico import pico, pico_tokenizer

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


def quick_gates() -> None:
    """Gates learn in a tenth of the steps: how well they tell is tested elsewhere."""
    document.STEPS = (10, 100)


def make() -> addenda.Base:
    torch.set_num_threads(1)
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    base.new("a", addenda.NeutralResidues(width=8))
    return base


def wait(here: Path) -> None:
    """Say that the place is reached, and wait for a signal; what it does is the run's own business."""
    draft = here.with_suffix(".draft")
    draft.write_text(str(os.getpid()))
    draft.rename(here)
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


def run(out: Path, where: str) -> int:
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
        out.with_name(out.name + ".told").write_text(str(stopped))
        return 7
    return 0


def main(arguments: list[str]) -> None:
    quick_gates()
    make()  # what is imported late is imported once
    runs: dict[int, Path] = {}
    for out, where in zip(arguments[::2], arguments[1::2], strict=True):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = run(Path(out), where)
            finally:
                os._exit(code)
        runs[pid] = Path(out)
    while runs:
        pid, status = os.wait()
        out = runs.pop(pid)
        draft = out.with_name(out.name + ".draft")
        draft.write_text(str(os.waitstatus_to_exitcode(status)))
        draft.rename(out.with_name(out.name + ".code"))


if __name__ == "__main__":
    main(sys.argv[1:])
