"""Long work of a verb: shown as it goes, and stopped by Ctrl-C between two batches, with a word on what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from addenda.telling.progress import Progress


@contextmanager
def working(
    task: str, kept: str, total: float | None = None, unit: str = "tokens", counted: bool = True
) -> Iterator[Progress]:
    """Show the work of this block on standard error, and stop it between two batches at the first signal.

    Args:
        task: what is done, in a word.
        kept: what is there after a signal, as the end of a sentence: "nothing was saved".
        total: how much there is to do, in `unit`; None: not known yet.
        unit: what is counted.
        counted: the work counts itself as it goes.

    Raises:
        Stopped: a signal came.
    """
    from addenda.telling.interrupts import Interrupts, Stopped
    from addenda.telling.progress import Progress

    with Progress(task, total, unit, by_ticks=counted, at_once=False) as shown:
        try:
            with Interrupts(f"stopping after this batch; {kept}"):
                yield shown
        except Stopped as stopped:
            raise Stopped(f"stopped by {stopped.signal}; {kept}", stopped.signal) from None
