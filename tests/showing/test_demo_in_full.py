"""The demo as `make demo` runs it, with the figures that a reader is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.long
def test_the_module_learns_and_forgets_less_than_lora(
    tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    command = [sys.executable, "-m", "addenda", "demo", "--json", "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]  # a check that failed
    report = json.loads(done.stdout)
    rows = {row["label"]: row for row in report["rows"] if row["learned"] is not None}
    for label, row in rows.items():
        for what in ("learned", "forgotten"):
            record_property(f"{label}: {what}, nats per token", {k: row[what][k] for k in ("nats", "low", "high")})
    record_property("seconds", round(report["seconds"]))
    (lora,) = [label for label in rows if "LoRA" in label]
    assert rows["module on"]["learned"]["low"] > 0
    assert rows["module on"]["forgotten"]["high"] < rows[lora]["forgotten"]["low"]
