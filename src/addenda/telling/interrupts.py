"""Interrupts: the first Ctrl-C is answered at once in words, and stops long work between two batches."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from types import FrameType, TracebackType
from typing import Any

from addenda.core.errors import AddendaError

#: what happens after a signal, where nothing is kept
NOTHING_KEPT = "stopping after this batch"
AGAIN = "press Ctrl-C again to stop at once"
#: a terminal that is closed; Windows has no such signal
_HANGUP = getattr(signal, "SIGHUP", None)
#: what asks long work to stop
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number is not None)


class Stopped(AddendaError):
    """Work was asked to stop, and did so between two batches; `signal` is the name of what stopped it."""

    def __init__(self, message: str, signal: str) -> None:
        super().__init__(message)
        self.signal = signal


class Interrupts:
    """While active, the first of the SIGNALS is answered in words and noted in `seen`; a second SIGINT stops at once.

    Long work asks `check` between two batches. Blocks may stand in one another: the inner one answers, and what it saw the
    outer one knows too. What came too late to stop anything is raised again when the outermost block ends without an error.

    Outside the main thread, where Python allows no handlers, nothing is changed.

    Args:
        promise: what will happen, in words ("stopping after step 3 of 8"), or a function that says it.
        raises: whether `check` ends the work. Where several processes work together, none may stop by itself.
    """

    def __init__(self, promise: str | Callable[[], str] = NOTHING_KEPT, *, raises: bool = True) -> None:
        self.seen: str | None = None
        self.promise, self.raises = promise, raises
        self._before: dict[int, Any] = {}
        self._outer: Interrupts | None = None
        self._token: Token[Interrupts | None] | None = None

    def __enter__(self) -> Interrupts:
        self._outer = _ACTIVE.get()
        self._token = _ACTIVE.set(self)
        if self._outer is not None:
            self.seen = self._outer.seen
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != _HANGUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.seen is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        first, self.seen = self.seen is None, signal.Signals(number).name
        if first:
            promise = self.promise if isinstance(self.promise, str) else self.promise()
            _answer(f"{self.seen}: {promise}; {AGAIN}")

    def check(self) -> None:
        """End the work here, between two batches, if a signal came.

        Raises:
            Stopped: one came.
        """
        if self.raises and self.seen is not None:
            raise Stopped(f"stopped by {self.seen}", self.seen)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that is finished whatever comes: `check` waits for its end."""
        before, self.raises = self.raises, False
        try:
            yield
        finally:
            self.raises = before

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._token is not None:
            _ACTIVE.reset(self._token)
        if self.seen is None:
            return
        if self._outer is not None:
            self._outer.seen = self.seen
        elif error is None:
            signal.raise_signal(signal.Signals[self.seen])


_ACTIVE: ContextVar[Interrupts | None] = ContextVar("addenda_interrupts", default=None)


def check() -> None:
    """End long work here, between two batches, if a signal came; nothing where no block of `Interrupts` is active.

    Raises:
        Stopped: one came.
    """
    active = _ACTIVE.get()
    if active is not None:
        active.check()


def _answer(text: str) -> None:
    """One line on standard error, from within a signal handler."""
    try:
        shown = sys.stderr.isatty()
        sys.stderr.write(("\r\x1b[2K" if shown else "") + text + "\n")  # in the place of a bar's line
        sys.stderr.flush()
    except (RuntimeError, ValueError, OSError):  # it was being written to just now, or is closed
        with suppress(OSError):  # nobody is there any more
            os.write(2, text.encode() + b"\n")
