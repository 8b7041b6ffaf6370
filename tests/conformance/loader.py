"""A process that works in processes of their own: started once, it forks afresh for every request.

Reads one JSON object a line, and answers with one line: "ok", "killed", or the error as JSON.

`{"task": "load", "arch", "folder", "out"}` plugs every module folder inside `folder` into a new pico base, and writes
the logits of the tests' batch under each to `out`. `{"task": "train", "arch", "case", "out", "kill"}` trains a new
module, and kills its own process (SIGKILL) in the middle of step `kill`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any


def load(arch: str, folder: str, out: str) -> None:
    """Plug each module of a folder, and write its logits."""
    from safetensors.torch import save_file

    import addenda
    from conformance.world import batch, logits, made

    base = addenda.attach(made(arch))
    found = {}
    for path in sorted(Path(folder).iterdir()):
        module = base.plug(path)
        for padded in (False, True):
            with base.using(module.name):
                found[f"{module.name}.{padded}"] = logits(base.model, *batch(padded)).contiguous()
        base.unplug(module.name)
    save_file(found, out)


def train(arch: str, case: str, out: str, kill: int) -> None:
    """Train as law 7 does, and die in the middle of a step."""
    from addenda.writing.step import Stepper
    from conformance.test_law07_resume_is_exact import run_of
    from conformance.world import throwaway

    original = Stepper.take

    def take(self: Stepper, step: int, passes: Any) -> Any:
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, step, passes)

    Stepper.take = take  # type: ignore[method-assign]
    run_of(throwaway(arch, case), Path(out))


def serve() -> None:
    """Answer requests until the input ends."""
    import torch

    from conformance import world  # everything is imported once, before the first fork

    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("arch") in world.REAL:
            world.twin_of(request["arch"])  # read once too
        child = os.fork()
        if child == 0:
            status = 0
            try:
                {"load": load, "train": train}[request.pop("task")](**request)
                print("ok", flush=True)
            except BaseException:  # noqa: BLE001 - told to the parent, whatever it is
                print(json.dumps(traceback.format_exc()), flush=True)
                status = 1
            os._exit(status)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            print("killed", flush=True)


if __name__ == "__main__":
    serve()
