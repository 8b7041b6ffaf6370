"""A process that loads modules in processes of their own: started once, it forks afresh for every request.

Reads one JSON object a line, `{"arch", "folder", "out"}`: plugs every module folder inside `folder` into a new pico
base, writes the logits of the tests' batch under each to `out`, and answers with one line, "ok" or the error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path


def load(arch: str, folder: str, out: str) -> None:
    """Plug each module of a folder, and write its logits."""
    from safetensors.torch import save_file

    import addenda
    from conformance.world import batch, logits
    from pico import pico

    base = addenda.attach(pico(arch))
    found = {}
    for path in sorted(Path(folder).iterdir()):
        module = base.plug(path)
        for padded in (False, True):
            with base.using(module.name):
                found[f"{module.name}.{padded}"] = logits(base.model, *batch(padded)).contiguous()
        base.unplug(module.name)
    save_file(found, out)


def serve() -> None:
    """Answer requests until the input ends."""
    import torch

    import conformance.world  # noqa: F401  everything is imported once, before the first fork

    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 0
            try:
                load(**request)
                print("ok", flush=True)
            except BaseException:  # noqa: BLE001 - told to the parent, whatever it is
                print(json.dumps(traceback.format_exc()), flush=True)
                status = 1
            os._exit(status)
        os.waitpid(child, 0)


if __name__ == "__main__":
    serve()
