"""Lessons: the teachers of a run, one for each module's corpus, and what they said of the tokens of a batch."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from addenda.core.errors import TrainingError
from addenda.objectives.head import Head
from addenda.objectives.objective import Taught
from addenda.text.texts import Texts
from addenda.writing.batches import Batch
from addenda.writing.distributed import Processes
from addenda.writing.plan import Plan
from addenda.writing.shards import Shards, unpacked
from addenda.writing.teacher import BATCH, Survey, Teacher

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: where a run keeps what its teachers said, and what its student answered
SAID, ANSWERS = "teacher", "answers"


@dataclass(frozen=True)
class Work:
    """What the teachers of a run have to do: records, tokens read, rows and bytes kept; `reads` is 0 where all is there."""

    records: int
    reads: int
    rows: int
    bytes: int


class Lessons:
    """What teachers say in a run. Without a run's folder and one given, a temporary folder keeps it, until `close`."""

    def __init__(self, base: Base, plan: Plan, head: Head, run: Path | None, processes: Processes) -> None:
        self.base, self.plan, self.head, self.processes = base, plan, head, processes
        if run is None and processes.size > 1:
            raise TrainingError("several processes share what a teacher says in a folder: give out=")
        self._block, self._run = ExitStack(), run
        self._own: Path | None = run
        self._surveys: dict[str, Survey] = {}
        self.teachers: dict[str, Teacher] = {}
        self.shards: dict[str, Shards] = {}
        for name, source in plan.corpora.items():
            self.read(name, source)

    @property
    def work(self) -> Path:
        """The run's folder, or a temporary one."""
        if self._own is None:
            made = tempfile.TemporaryDirectory(prefix="addenda-")
            self._own = Path(self._block.enter_context(made))
        return self._own

    @property
    def folder(self) -> Path:
        """Where shards are kept."""
        given = self.plan.settings.teacher
        return self.work / SAID if given is None else Path(given).expanduser()

    def read(self, name: str, source: Texts) -> None:
        """From now on a module's corpus is `source`; its teacher reads it in `make`."""
        self.shards.pop(name, None)
        self.teachers[name] = self._teacher(source)

    def _teacher(self, source: Texts) -> Teacher:
        precision = self.plan.settings.precision
        batch = min(BATCH, self.plan.rows * self.plan.length)  # no more memory than a step of training takes
        return Teacher(self.base, self.head, self.plan.objective, source, self.folder, precision, batch)

    def survey(self, name: str) -> Survey:
        """What there is to read in a module's own corpus."""
        if name not in self._surveys:
            self._surveys[name] = self._teacher(self.plan.corpora[name]).survey
        return self._surveys[name]

    def make(self) -> None:
        """Let every teacher read what it has not read yet; the first process does, the others wait for it.

        Raises:
            DataError: a record is wrong, or too long.
            FileError: what is said cannot be written.
            Stopped: a signal came; what is said so far is kept.
        """
        for first in (True, False):
            if self.processes.first == first:
                self.shards = {name: teacher.make() for name, teacher in self.teachers.items()}
            self.processes.wait()

    def taught(self, batch: Batch) -> Taught:
        """What was said of the targets [B * (T - 1)] of a batch; zeros where nothing was."""
        rows = batch.target_rows
        assert rows is not None
        at = rows.cpu().numpy()
        first = next(iter(self.shards.values()))
        found = np.zeros(at.shape, first.layout)
        for name, shards in self.shards.items():
            mine = [row for row in batch.rows_of(name) if (at[row] >= 0).any()]
            if mine:
                found[mine] = shards.rows(at[mine].reshape(-1)).reshape(len(mine), -1)
        return tuple(part.to(rows.device) for part in unpacked(found.reshape(-1)))

    def to_do(self) -> Work:
        """What is to be read, and kept, before the first step."""
        surveys = [teacher.survey for teacher in self.teachers.values()]
        left = [t.survey.reads if t.shards.missing() else 0 for t in self.teachers.values()]
        return Work(
            sum(len(s.tokens) for s in surveys), sum(left), sum(sum(s.sizes) for s in surveys),
            sum(t.shards.bytes for t in self.teachers.values()),
        )  # fmt: skip

    def clear(self) -> int:
        """Remove what is kept in the run's own folder; how many bytes that were. A folder that was given is left."""
        if self._run is None or not (self._run / SAID).is_dir():
            return 0
        self.shards.clear()
        size = sum(file.stat().st_size for file in (self._run / SAID).rglob("*") if file.is_file())
        shutil.rmtree(self._run / SAID, ignore_errors=True)
        return size

    def close(self) -> None:
        """Remove a temporary folder."""
        self.shards.clear()
        self._block.close()
