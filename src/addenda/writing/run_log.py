"""The log of a run: its records as JSON lines and for accelerate's trackers, and how it goes for whoever watches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addenda.core.errors import AddendaError
from addenda.telling.progress import Progress

LOG = "log.jsonl"


class RunLog:
    """What a run tells. `history` holds every record since it began, resumptions included; `shown` is for who watches."""

    def __init__(
        self,
        run: Path | None,
        steps: int | None = None,
        *,
        show: bool = False,
        tracker: Any = None,
        name: str = "",
        config: Mapping[str, Any] | None = None,
        task: str = "training",
        unit: str = "steps",
    ) -> None:
        self.file = None if run is None else run / LOG
        self.history: list[dict[str, Any]] = []
        self.trackers = _trackers(tracker, run, name, dict(config or {}))
        self.shown = Progress(f"{task} {name}", steps, unit, show=show)

    def __enter__(self) -> RunLog:
        self.shown.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.shown.__exit__(*error)
        for tracker in self.trackers:
            tracker.finish()

    def resume(self, step: int, *, validated: bool = True) -> None:
        """Take up the log of the run, up to `step`; what was logged after the checkpoint is dropped.

        Where that step was not `validated` by then, a validation of it is dropped too: it is done again.
        """
        if self.file is not None and self.file.exists():
            lines = [
                json.loads(line)
                for line in self.file.read_text(encoding="utf-8", errors="replace").splitlines()
                if _whole(line)
            ]
            kept = (line for line in lines if line["step"] <= step)
            self.history = [line for line in kept if validated or line["step"] < step or "validation" not in line]
            self._write("w", self.history)

    def note(self, record: dict[str, Any]) -> None:
        """Log a record with the field `step`, and pass its numbers on to trackers."""
        self.history.append(record)
        self._write("a", [record])
        for tracker in self.trackers:
            tracker.log(_flat(record), step=record["step"])

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        self.shown.say(text)

    def _write(self, mode: str, records: list[dict[str, Any]]) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open(mode, encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)


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
    for tracker in chosen:
        if not isinstance(tracker, GeneralTracker):
            make: Any = LOGGER_TYPE_TO_CLASS[str(tracker)]
            tracker = make(name, folder) if make.requires_logging_directory else make(name)
        made.append(tracker)
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
