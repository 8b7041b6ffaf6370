"""Forward and backward of the recipe, in this process or shared between single-thread processes."""

from __future__ import annotations

import signal
import traceback
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .corpus import tokens_of
from .network import head_loss, make_config, make_model, use_block_attention
from .rows import Rows
from .settings import Settings

ALIGN = 64  # numbers: every tensor in a shared buffer starts on a cache line


class Board:
    """What the processes of a run share: weights, a place for each micro-batch's result, the next one to do."""

    def __init__(self, settings: Settings, workers: int, lock: AbstractContextManager[Any]) -> None:
        config = make_config(settings.variant, settings.vocab_size, **(settings.config or {}))
        model = make_model(config, settings.seed)
        self.starts: dict[str, int] = {}
        size = 0
        for name, p in model.named_parameters():
            self.starts[name] = size
            size += -(-p.numel() // ALIGN) * ALIGN
        dtype = torch.bfloat16 if settings.half else torch.float32
        slots = settings.batch // settings.micro
        head = model.lm_head.weight.shape
        self.weights = torch.zeros(size, dtype=dtype)
        self.gradients = torch.zeros(slots, size, dtype=dtype)
        self.heads = torch.zeros(slots, *head)  # the head's own part comes in float32
        self.losses = torch.zeros(slots, dtype=torch.float64)
        self.next = torch.zeros(1, dtype=torch.int64)
        if workers > 1:
            for tensor in (self.weights, self.gradients, self.heads, self.losses, self.next):
                tensor.share_memory_()
        self.lock = lock

    def take(self) -> int:
        """The number of a micro-batch that nobody has taken."""
        with self.lock:
            number = int(self.next)
            self.next += 1
        return number


class Engine:
    """A copy of the network whose weights lie on the board."""

    def __init__(self, settings: Settings, tokens: np.ndarray, board: Board) -> None:
        self.settings, self.board = settings, board
        config = make_config(settings.variant, settings.vocab_size, **(settings.config or {}))
        self.model = make_model(config, settings.seed)
        if settings.half:
            self.model.bfloat16()
        use_block_attention(self.model)
        self.named = dict(self.model.named_parameters())
        self.head = self.model.lm_head.weight
        for name, p in self.named.items():
            p.data = self.view(board.weights, name)
        self.rows = {n: Rows(tokens, n, settings.seed) for n in {settings.short, settings.long}}
        inner = self.model.model

        def body(ids: torch.Tensor) -> torch.Tensor:
            return inner(input_ids=ids, use_cache=False).last_hidden_state

        self._body, self._head = body, head_loss
        if settings.compile:
            self._body = torch.compile(body, dynamic=False)
            self._head = torch.compile(head_loss, dynamic=False)

    def view(self, flat: torch.Tensor, name: str) -> torch.Tensor:
        """The part of a flat buffer that belongs to a parameter."""
        start, shape = self.board.starts[name], self.named[name].shape
        return flat[start : start + shape.numel()].view(shape)

    def work(self, length: int, first: int) -> None:
        """Does micro-batches of a step that starts at row `first`, until none is left."""
        per = max(1, self.settings.micro // length)
        while (number := self.board.take()) < len(self.board.losses):
            self._micro_step(self.rows[length].batch(first + number * per, per), number)

    def _micro_step(self, rows: torch.Tensor, number: int) -> None:
        ids, targets = rows[:, :-1].contiguous(), rows[:, 1:].reshape(-1)
        hidden = self._body(ids)
        with torch.no_grad():
            flat = hidden.detach().reshape(-1, hidden.shape[-1])
            loss, d_hidden, d_head = self._head(flat, targets, self.head.detach())
        scale = 1.0 / self.settings.batch
        hidden.backward((d_hidden * scale).view(hidden.shape))
        board = self.board
        with torch.no_grad():
            for name, p in self.named.items():
                gradient, p.grad = p.grad, None
                if gradient is None:
                    raise RuntimeError(f"{name} got no gradient")
                self.view(board.gradients[number], name).copy_(gradient)
            torch.mul(d_head, scale, out=board.heads[number])
        board.losses[number] = loss


def _serve(connection: Connection, work: str, settings: Settings, board: Board) -> None:
    """A worker process: takes part in every step that it is told of, until the other end closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the main process decides when to end
    torch.set_num_threads(1)
    try:
        engine = Engine(settings, tokens_of(Path(work)), board)
        while True:
            engine.work(*connection.recv())
            connection.send(None)
    except (EOFError, BrokenPipeError):
        pass
    except Exception:  # noqa: BLE001 - told to the main process, which raises
        connection.send(traceback.format_exc())


class Crew:
    """Shares the micro-batches of a step between this process and `workers` - 1 others.

    Threads of one process wait for each other at every operation, and where the cores are shared
    with other programs the slowest sets the pace of all. Processes meet once a step, and whoever
    is faster does more; every result has its own place, so the sum does not depend on who did what.
    """

    def __init__(self, work: Path, settings: Settings, tokens: np.ndarray, workers: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.board = Board(settings, workers, context.Lock())
        self.first = Engine(settings, tokens, self.board)
        self.gradients = {name: torch.zeros(p.shape) for name, p in self.first.named.items()}
        self.head_name = next(n for n, p in self.first.named.items() if p is self.first.head)
        self.workers = workers
        self.others = []
        for _ in range(workers - 1):
            mine, theirs = context.Pipe()
            arguments = (theirs, str(work), settings, self.board)
            context.Process(target=_serve, args=arguments, daemon=True).start()
            theirs.close()
            self.others.append(mine)

    def run(self, length: int, first: int) -> float:
        """Fills `gradients` from the rows of one step; returns their summed loss."""
        self.board.next.zero_()
        for other in self.others:
            other.send((length, first))
        if self.others:
            torch.set_num_threads(1)
        self.first.work(length, first)
        for other in self.others:
            if (problem := other.recv()) is not None:
                raise RuntimeError(f"a worker process failed:\n{problem}")
        if self.others:
            torch.set_num_threads(self.workers)
        # Summed in float32 and in order: bfloat16 would lose small gradients.
        for name, total in self.gradients.items():
            total.zero_()
            for slot in self.board.gradients:
                total.add_(self.first.view(slot, name))
        for part in self.board.heads:
            self.gradients[self.head_name].add_(part)
        return float(self.board.losses.sum())
