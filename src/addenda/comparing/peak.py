"""Peak memory: what training takes at most beside the base, on a GPU or resident in this process; None where nothing tells."""

from __future__ import annotations

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: MiB by which a peak may stand above what is resident right after it was reset
SLACK = 8.0


class Peak:
    """The most memory in use since this was made, over what was in use then, and with the model's own weights.

    So neither what earlier methods left behind counts, nor a second copy of the base that stands by; the base that is trained
    or acted in counts once for every method. On a CPU it is resident memory, of the whole process.
    """

    def __init__(self, model: Any, device: Any) -> None:
        self.device = device
        self.model = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()) / 1e6
        _give_back()
        self.before = _reset(device)

    def megabytes(self) -> float | None:
        """MB (10^6 bytes); None where the system does not tell, or does not let a peak begin anew."""
        if self.before is None:
            return None
        return self.model + max(0.0, _highest(self.device) - self.before)


def _reset(device: Any) -> float | None:
    """Let the peak begin anew: MB in use now; None where that cannot be had."""
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6
    if not (STATUS.exists() and RESET.exists()):
        return None
    with suppress(OSError):  # not every kernel lets one
        RESET.write_text("5", encoding="ascii")
    now = resident("VmRSS")
    # an old peak that still stands would be taken for this method's
    return now * 2**20 / 1e6 if resident("VmHWM") <= now + SLACK else None


def _highest(device: Any) -> float:
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    return resident("VmHWM") * 2**20 / 1e6


def resident(mark: str) -> float:
    """`VmRSS` (now) or `VmHWM` (peak) of this process, MiB. Linux alone counts so."""
    match = re.search(rf"^{mark}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def _give_back() -> None:
    """Free what nobody uses: memory that the C library keeps would hide what the next method takes."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
