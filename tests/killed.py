"""Calls that are killed (SIGKILL) at a chosen moment, in processes of their own.

    python killed.py ROOT MOMENT [MOMENT ...]

One process imports everything, and forks one for each moment, which works in ROOT/MOMENT and kills itself there.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import addenda
from addenda.combining import checkpoint_files
from addenda.combining import merge as merging
from addenda.combining.gguf import write as gguf_file
from addenda.core import files
from addenda.writing import checkpoint, rounds, teacher
from addenda.writing.writer import Writer
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way. " * 6
READING: dict[str, Any] = {"window": 48, "chunk": 16, "log": False, "lr": 1e-2, "checkpoint_every": 2}


def make(rank: int = 4) -> addenda.Base:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    base.new("book", addenda.LocasGLU(rank, scale=8.0), text=TEXT)
    with torch.no_grad():
        for parameter in base.modules["book"].parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return base


def merge(folder: Path, rank: int = 40, **more: Any) -> Any:
    """A merge in several shards; of more units than the one that stands there."""
    return addenda.merge(make(rank), "book", out=folder / "out", probe=[TEXT], shard_bytes=50_000, **more)


def memorize(folder: Path, **more: Any) -> addenda.Base:
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    addenda.memorize(base, "m", text=TEXT, kind=addenda.LocasGLU(4, scale=16.0), out=folder / "out", **READING, **more)
    return base


def study(folder: Path, **more: Any) -> addenda.Base:
    """A run whose teacher writes several shards, and whose student answers twice."""
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2))
    told = [f"Room {n} costs {n * 3} coins." for n in range(12)]
    corpus = [{"prompt": f"Room {n}?", "completion": f"It is {n * 3}.", "reads": told[n]} for n in range(12)]
    with patch.object(teacher, "READ", 300):  # the reference runs in the tests' own process
        addenda.train(
            base, "m", corpus=corpus, tokens=8 * 2 * 32, length=32, batch_rows=2, lr=1e-2, log=False, checkpoint_every=2,
            objective="on_policy(rounds=2, answer_tokens=6)", out=folder / "out", **more,
        )  # fmt: skip
    return base


def die(owner: Any, name: str, call: int = 1, after: bool = False, half: bool = False) -> None:
    """Kill this process at the given call of a function, before it or after it, or with half of its file written."""
    original, calls = getattr(owner, name), [0]

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] < call:
            return original(*args, **kwargs)
        if half:
            args[0].write_bytes(b"half of it")
        if after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed, and still here")

    setattr(owner, name, dying)


#: what is called, and where it ends
MOMENTS: dict[str, tuple[Callable[[Path], Any], Callable[[], None]]] = {
    "in the second shard": (merge, lambda: die(checkpoint_files, "write_tensors", 2, half=True)),
    "in the proof": (merge, lambda: die(merging, "prove")),
    "in the manifest": (merge, lambda: die(checkpoint_files, "write_text", half=True)),
    "before the swap": (merge, lambda: die(files, "_swap")),
    "after the swap": (merge, lambda: die(files, "_swap", after=True)),
    "with a GGUF unread": (lambda folder: merge(folder, format="gguf"), lambda: die(gguf_file, "logits_of", 2)),
    "in a chunk": (memorize, lambda: die(Writer, "take", 6)),
    "in a teacher's second shard": (study, lambda: die(np, "save", 2, half=True)),
    "in an answer": (study, lambda: die(rounds, "continued")),
    "in a checkpoint of a round": (study, lambda: die(checkpoint, "write_tensors", 3, half=True)),
    "in a checkpoint": (memorize, lambda: die(checkpoint, "write_tensors", 2, half=True)),
}


def main(root: Path, moments: list[str]) -> None:
    make()  # what is imported late is imported once
    for moment in moments:
        pid = os.fork()
        if pid == 0:
            try:
                call, arm = MOMENTS[moment]
                arm()
                call(root / moment)
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL, moment


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
