"""The work of a process: a run, of whatever study; in a file of its own, for processes find nothing in `__main__`."""

from __future__ import annotations

from pathlib import Path

from recipes.studies import composition
from recipes.studies.run import Run, execute


def work(run: Run, folder: Path) -> str:
    """Make a run, of whatever study, whose records are in `folder`."""
    return (composition.execute if run.study == composition.STUDY else execute)(run, folder)
