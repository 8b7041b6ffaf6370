"""Signals: SIGINT and SIGTERM end a run after the step it is in, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from addenda.core.errors import TrainingError


class TrainingStopped(TrainingError):
    """A run was asked to stop, and did so after a whole step; `signal` is the name of what stopped it."""

    def __init__(self, message: str, signal: str) -> None:
        super().__init__(message)
        self.signal = signal

    @classmethod
    def after(cls, done: str, signal: str, folder: Path | None) -> TrainingStopped:
        """The error after what was done ("step 3 of 8"), with how to go on from the run's folder, where it has one."""
        after = f"stopped by {signal} after {done}"
        if folder is None:
            return cls(f"{after}; without out= nothing was written, and this run cannot be resumed", signal)
        return cls(f"{after}; the same call with resume=True goes on from {folder}", signal)


class Interrupts:
    """While active, the first SIGINT or SIGTERM is noted in `seen`; a second SIGINT stops at once.

    What came too late to stop anything, with the last step done, is raised again when the block ends without an error.

    Outside the main thread, where Python allows no handlers, nothing is changed.
    """

    def __init__(self) -> None:
        self.seen: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.seen is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.seen = signal.Signals(number).name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self.seen is not None and error is None:
            signal.raise_signal(signal.Signals[self.seen])
