"""Progress: the bar on standard error, the log as JSON lines, and accelerate's trackers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from addenda.core.errors import AddendaError

LOG = "log.jsonl"


class Progress:
    """Tells how a run goes. `history` holds every record since the run began, resumptions included."""

    def __init__(
        self,
        run: Path | None,
        steps: int,
        *,
        show: bool,
        tracker: Any,
        name: str,
        config: dict[str, Any],
        task: str = "training",
    ) -> None:
        self.file = None if run is None else run / LOG
        self.history: list[dict[str, Any]] = []
        self.trackers = _trackers(tracker, run, name, config)
        self._bar = _Bar(steps, task) if show else None
        self._first: tuple[float, int] | None = None

    def steps(self, steps: int) -> None:
        """Say how many steps there are, where that was not known at first."""
        if self._bar is not None:
            self._bar.lines.update(self._bar.task, total=steps)

    def resume(self, step: int) -> None:
        """Take up the log of the run, up to `step`; what was logged after the checkpoint is dropped."""
        if self.file is not None and self.file.exists():
            lines = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines() if _whole(line)]
            self.history = [line for line in lines if line["step"] <= step]
            self._write("w", self.history)

    def begin(self, step: int) -> None:
        """Start the clock."""
        self._first = (time.perf_counter(), step)
        if self._bar is not None:
            self._bar.start(step)

    def step(self, step: int, loss: float, tokens_per_second: float) -> None:
        """One step was taken."""
        if self._bar is not None:
            self._bar.step(step, loss, tokens_per_second)

    def note(self, record: dict[str, Any]) -> None:
        """Log a record with the field `step`, and pass its numbers on to trackers."""
        self.history.append(record)
        self._write("a", [record])
        for tracker in self.trackers:
            tracker.log(_flat(record), step=record["step"])

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        if self._bar is not None:
            self._bar.say(text)

    def close(self) -> None:
        """Stop the bar and the trackers."""
        if self._bar is not None:
            self._bar.close()
        for tracker in self.trackers:
            tracker.finish()

    def _write(self, mode: str, records: list[dict[str, Any]]) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open(mode, encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)


class _Bar:
    """A line with share, loss, tokens per second and time left."""

    def __init__(self, steps: int, task: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Lines

        self.lines = Lines(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s  left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.lines.add_task(task, total=steps, loss="-", speed="-")

    def start(self, step: int) -> None:
        self.lines.update(self.task, completed=step)
        self.lines.start()

    def step(self, step: int, loss: float, speed: float) -> None:
        self.lines.update(self.task, completed=step, loss=f"{loss:.3f}", speed=f"{speed:,.0f}")

    def say(self, text: str) -> None:
        self.lines.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self.lines.stop()


def _trackers(wanted: Any, run: Path | None, name: str, config: dict[str, Any]) -> list[Any]:
    if wanted is None:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, filter_trackers

    given = wanted if isinstance(wanted, list | tuple) else [wanted]
    folder = None if run is None else str(run / "tracking")
    try:
        chosen = filter_trackers(list(given), folder)
    except (ValueError, RuntimeError) as error:
        hint = "; give out=, where its files can go" if "logging_dir" in str(error) else ""
        raise AddendaError(f"tracker {wanted!r}: {error}{hint}") from None
    if len(chosen) < len(given):
        raise AddendaError(f"tracker {wanted!r} is not installed")
    made = []
    for one in chosen:
        if not isinstance(one, GeneralTracker):
            make: Any = LOGGER_TYPE_TO_CLASS[str(one)]
            one = make(name, folder) if make.requires_logging_directory else make(name)
        made.append(one)
    for tracker in made:
        tracker.start()
        tracker.store_init_configuration(_flat(config))
    return made


def _flat(record: dict[str, Any], front: str = "") -> dict[str, Any]:
    """Numbers and texts of a record, nested names joined with a slash."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{front}{key}/")
        elif isinstance(value, bool | int | float | str) and key != "step":
            flat[front + key] = value
    return flat


def _whole(line: str) -> bool:
    """Whether a log line was written to its end."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
