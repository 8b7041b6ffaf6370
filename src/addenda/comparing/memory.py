"""Memory: what this process, or its GPU, took at most since a moment; where the kernel does not tell, nothing is known."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(mark: str) -> float:
    """`VmRSS` (now) or `VmHWM` (peak) of this process, MiB. Linux alone counts so."""
    found = re.search(rf"^{mark}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def reset_peak(device: Any) -> None:
    """Let the peak of a torch device begin anew, where it can be told."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        with suppress(OSError):  # not every kernel lets one
            RESET.write_text("5", encoding="ascii")


def peak(device: Any) -> float | None:
    """Megabytes at most since the reset: of the GPU, or resident in this process; None where nothing tells."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    return resident("VmHWM") * 2**20 / 1e6 if STATUS.exists() else None
