"""The test's end of `loader.py`: asks another process to load or train modules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import children

HERE = Path(__file__).parent


class OtherProcess:
    """A process that forks for every request; started when first asked."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(HERE / "loader.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=children.environment(HERE.parent),
            )
            assert self._answer(self.process) == "ready"
        return self.process

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        return json.loads(said) if said.startswith('"') else said

    def ask(self, **request: Any) -> str:
        """What a fresh process said of a request: "ok", "killed", or its traceback."""
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return self._answer(process)

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.communicate()
