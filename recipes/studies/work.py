"""The work of a process: a run, of whatever study. (Other processes find nothing that `python -m` calls `__main__`.)"""

from __future__ import annotations

from pathlib import Path

from recipes.studies import composition
from recipes.studies.run import Run, execute


def work(run: Run, folder: Path) -> str:
    """Make a run, of whatever study."""
    return (composition.execute if run.study == composition.STUDY else execute)(run, folder / run.study)
