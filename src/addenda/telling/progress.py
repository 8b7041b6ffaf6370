"""Progress: how a long piece of work goes, as a bar on a terminal and as timed plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any

from addenda.telling import interrupts

#: seconds between two plain lines: a reader is promised one every 30
EVERY = 20.0


@dataclass
class Count:
    """So much of something: `done` of `total` (None: not known) in units, since `began`; `before` were done earlier."""

    task: str
    total: float | None
    unit: str
    began: float
    done: float = 0
    before: float = 0

    def said(self) -> str:
        """What is done of what."""
        if self.total is None:
            return self.task if not self.done else f"{self.task}: {self.done:,.0f} {self.unit}"
        total = max(self.total, self.done)  # a total may have been estimated
        share = f" ({self.done / total:.0%})" if total and self.done else ""
        return f"{self.task}: {self.done:,.0f}/{total:,.0f} {self.unit}{share}"

    def pace(self, now: float) -> float:
        """Units a second since it began; 0 where that cannot be told yet."""
        return (self.done - self.before) / (now - self.began) if now > self.began else 0.0

    def left(self, now: float) -> float | None:
        """Seconds that the rest takes at this pace."""
        pace = self.pace(now)
        return None if self.total is None or not pace else max(0.0, self.total - self.done) / pace


class Progress:
    """A piece of work from its first line to its last. As a context manager it is shown, and `tick` in it counts.

    On a terminal there is a bar; elsewhere (a log file, nohup, CI) a line at once, one every `EVERY` seconds while work goes
    on, and one at the end: a thread writes them, so also in the middle of a long batch. All goes to standard error.

    Args:
        task: what is done, in a few words.
        total: how much of it there is, in `unit`; None: not known.
        unit: what is counted.
        show: False: nothing is written, and only what is done is counted.
        by_ticks: count what `tick` is told, and not only what `update` says.
        at_once: False: nothing is written before the work tells something: what is wrong with the input comes first.
        every: seconds between two plain lines.
        clock: gives seconds.
    """

    def __init__(
        self,
        task: str,
        total: float | None = None,
        unit: str = "tokens",
        *,
        show: bool = True,
        by_ticks: bool = False,
        at_once: bool = True,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.show, self.by_ticks, self.at_once, self.every = clock, show, by_ticks, at_once, every
        self.whole = Count(task, total, unit, clock())
        self.parts: list[Count] = []
        self.rate = self.note = ""
        self._shown: _Bar | _Lines | None = None
        self._token: Token[Progress | None] | None = None

    def __enter__(self) -> Progress:
        self.whole.began = self.clock()
        if self.show:
            self._token = _CURRENT.set(self)
            if self.at_once:
                self._moved()
        return self

    def __exit__(self, *error: Any) -> None:
        self.parts.clear()
        if self._shown is not None:
            self._shown.close()
            self._shown = None
        if self._token is not None:
            _CURRENT.reset(self._token)
            self._token = None

    def begin(self, done: float = 0, total: float | None = None) -> None:
        """Start the clock; `done` was done before."""
        self.whole.began, self.whole.done, self.whole.before = self.clock(), done, done
        self.whole.total = self.whole.total if total is None else total
        self._moved()

    def update(self, done: float, *, total: float | None = None, rate: str = "", note: str = "") -> None:
        """So much is done by now, at a rate and with a remark (a loss) of the caller's own, if any."""
        self.whole.done = done
        self.whole.total = self.whole.total if total is None else total
        self.rate, self.note = rate or self.rate, note or self.note
        self._moved()

    def advance(self, done: float) -> None:
        """So much more is done, of the part that is going on, and of the whole where it is counted so."""
        if self.parts:
            self.parts[-1].done += done
        if self.by_ticks:
            self.whole.done += done
        self._moved()

    def _moved(self) -> None:
        """Draw it anew, where it is shown."""
        if self._shown is not None:
            self._shown.moved()
        elif self._token is not None:
            self._shown = _Bar(self) if _terminal() else _Lines(self)
            self._shown.open()

    @contextmanager
    def part(self, task: str, total: float | None = None, unit: str = "tokens") -> Iterator[None]:
        """A part of the work, told beside the whole while the block runs."""
        count = Count(task, total, unit, self.clock())
        self.parts.append(count)
        self._moved()
        try:
            yield
        finally:
            if count in self.parts:
                self.parts.remove(count)

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        if self._token is not None:
            self._moved()
        if self._shown is not None:
            self._shown.say(text)

    def told(self) -> str:
        """How it stands, in one line: what is done of what, time gone, time left, rate, the caller's remark, the part."""
        now, whole = self.clock(), self.whole
        words = [whole.said(), f"{clocked(now - whole.began)} gone"]
        left = whole.left(now)
        if left is not None and whole.done < (whole.total or 0):
            words.append(f"about {clocked(left)} left")
        pace = self.rate or (f"{_rate(whole.pace(now))} {whole.unit}/s" if whole.done > whole.before else "")
        parts = [count.said() for count in self.parts[-1:]]
        return ", ".join([*words, *filter(None, (pace, self.note))]) + "".join(f"; {part}" for part in parts)


def _rate(pace: float) -> str:
    """So many a second: three digits, and whole numbers above: "0.128", "15", "1,590"."""
    return f"{pace:,.0f}" if pace >= 100 else f"{pace:.3g}"


_CURRENT: ContextVar[Progress | None] = ContextVar("addenda_progress", default=None)


def tick(done: float = 0) -> None:
    """Between two batches: `done` more is done of whatever long work is shown, and a Ctrl-C ends the work here.

    Raises:
        Stopped: a signal came, and whoever began the work waits for it with `Interrupts`.
    """
    watched = _CURRENT.get()
    if watched is not None:
        watched.advance(done)
    interrupts.check()


def shown() -> Progress | None:
    """The long work that is shown here, if any."""
    return _CURRENT.get()


@contextmanager
def part(task: str, total: float | None = None, unit: str = "tokens") -> Iterator[None]:
    """A part of whatever long work is shown; nothing where none is."""
    watched = _CURRENT.get()
    with contextlib.nullcontext() if watched is None else watched.part(task, total, unit):
        yield


def clocked(seconds: float) -> str:
    """A time as a clock shows it: 0:07, 12:30, 2:05:00."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def about(seconds: float) -> str:
    """A time in words, roughly: "some seconds", "40 seconds", "3 minutes", "2.5 hours"."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"{round(seconds, -1):.0f} seconds"
    if seconds < 90 * 60:
        minutes = round(seconds / 60)
        return f"{minutes} minute{'s' * (minutes > 1)}"
    return f"{seconds / 3600:.1f} hours"


def megabytes(size: float) -> str:
    """A number of bytes in MB, or GB where these are many."""
    return (
        f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
    )


def _terminal() -> bool:
    """Whether somebody watches standard error on a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Lines:
    """Plain lines: one at once, one every so many seconds, one at the end."""

    def __init__(self, of: Progress) -> None:
        self.of = of
        self._over = threading.Event()
        self._last = ""
        self._thread = threading.Thread(target=self._watch, name="addenda-progress", daemon=True)

    def open(self) -> None:
        self.line()
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(self.of.every):
            self.line()

    def line(self) -> None:
        """How it stands now."""
        self._last = self.of.told()
        self.say(self._last)

    def moved(self) -> None:
        """The next line says so."""

    def say(self, text: str) -> None:
        with contextlib.suppress(ValueError, OSError):  # whoever read us has gone
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.of.told() != self._last:
            self.line()


class _Bar:
    """A line that is drawn again and again: the task, a bar, and how it stands."""

    def __init__(self, of: Progress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, Task
        from rich.progress import Progress as Lines
        from rich.text import Text

        class Told(ProgressColumn):
            """What `told` says, whenever the line is drawn."""

            def render(self, task: Task) -> Text:
                return Text(of.told(), no_wrap=True, overflow="ellipsis")

        self.of = of
        self.lines = Lines(BarColumn(bar_width=20), Told(), console=Console(stderr=True))
        self.task = self.lines.add_task(of.whole.task, total=of.whole.total)

    def open(self) -> None:
        self.lines.start()

    def moved(self) -> None:
        whole = self.of.whole
        total = None if whole.total is None else max(whole.total, whole.done)
        self.lines.update(self.task, completed=self.of.whole.done, total=total)

    def say(self, text: str) -> None:
        with contextlib.suppress(ValueError, OSError):  # the terminal was closed
            self.lines.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self.moved()
        with contextlib.suppress(ValueError, OSError):
            self.lines.stop()
