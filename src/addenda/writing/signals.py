"""A run that was stopped: after which step, what was kept, and how to go on or to keep it as it is."""

from __future__ import annotations

from pathlib import Path

from addenda.core.errors import TrainingError
from addenda.telling.interrupts import Interrupts, Stopped

__all__ = ["Interrupts", "TrainingStopped"]


class TrainingStopped(TrainingError, Stopped):
    """A run was asked to stop, and did so after a whole step; `signal` is the name of what stopped it."""

    def __init__(self, message: str, signal: str) -> None:
        Stopped.__init__(self, message, signal)

    @classmethod
    def after(cls, done: str, signal: str, folder: Path | None, *, begun: bool = True) -> TrainingStopped:
        """The error after what was done ("step 3 of 8"), with how to go on from the run's folder, where it has one.

        Args:
            done: what was done.
            signal: what stopped it.
            folder: of the run; None: nothing was written.
            begun: whether there is a checkpoint.
        """
        after = f"stopped by {signal} after {done}"
        if folder is None:
            return cls(f"{after}; without out= nothing was written, and this run cannot be resumed", signal)
        if not begun:
            return cls(
                f"stopped by {signal} before {done}; nothing was trained yet, and the same call begins anew", signal
            )
        return cls(
            f"{after}; the same call with resume=True goes on from {folder}, and with finish=True it keeps the module as it "
            "is now",
            signal,
        )
