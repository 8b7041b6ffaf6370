"""The environment of processes that tests start: one thread, and the modules that the test itself would import."""

from __future__ import annotations

import os
from pathlib import Path


def environment(*folders: Path) -> dict[str, str]:
    """This environment with folders to import from in front of its own: a child runs the same Addenda as its parent."""
    paths = [*map(str, folders), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
