"""Records of long tests: one JSON file for each that passed, in the folder that `ADDENDA_RECORDS` names.

`make long` names docs/results/long; whoever runs it commits what it leaves. A test puts figures into its record with
pytest's `record_property(name, value)`.
"""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import addenda
from addenda.core.files import replace_text

PACKAGES = ("torch", "transformers")


def keep(report: pytest.TestReport) -> Path | None:
    """Write the record of a long test that passed: its path; None where there is nothing to keep, or no folder named."""
    folder = os.environ.get("ADDENDA_RECORDS")
    if not folder or "long" not in report.keywords or report.when != "call" or not report.passed:
        return None
    if os.environ.get("PYTEST_XDIST_WORKER"):  # the process that collects the reports keeps it
        return None
    record = {
        "test": report.nodeid,
        "figures": dict(report.user_properties),
        "seconds": round(report.duration),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"addenda": addenda.__version__, **{name: version(name) for name in PACKAGES}},
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
    }
    path = Path(folder) / f"{re.sub(r'[^A-Za-z0-9]+', '-', report.nodeid.split('::', 1)[1]).strip('-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(record, indent=1) + "\n")
    return path
