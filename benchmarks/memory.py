"""Peak memory of one step, in a process of its own: resident set, as the kernel counts it.

    python -m benchmarks.memory --model 150m --kind neutral --what prefill

Prints one JSON line: `before` is resident once everything is loaded and plugged, `peak` the high-water mark while the
step runs, in MiB. Linux only: the mark is reset through /proc/self/clear_refs, so that loading does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from addenda.comparing.peak import RESET, STATUS, resident

WHAT = ("decode", "prefill", "train")


def child(model: str, kind: str, what: str, dtype: str, length: int) -> dict[str, Any] | None:
    """Measure in a process of its own; None where the kernel does not tell."""
    if not STATUS.exists():
        return None
    asked = ["--model", model, "--kind", kind, "--what", what, "--dtype", dtype, "--length", str(length)]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *asked], cwd=root, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """Measure one step of one kind here and print it."""
    import torch

    import addenda
    from benchmarks import live, models, steps

    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--model", choices=models.MODELS, default="tiny")
    parser.add_argument("--kind", default="bare", help="bare, peft-lora, or a kind of this benchmark")
    parser.add_argument("--what", choices=WHAT, default="prefill")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--length", type=int, default=512)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = models.bare(options.model, getattr(torch, options.dtype))
    ids, under, name = models.text_ids("on", options.length)[None], nullcontext, options.kind
    if name == "peft-lora":
        model = models.peft_lora(model, round(models.EXTRA * sum(p.numel() for p in model.parameters())))
    elif name != "bare":
        base = addenda.attach(model)
        models.plugged(base, name, models.kinds(base)[name])
        if name in live.GATED:
            live.randomised(base.modules[name])
            shares = live.read_shares(None)[name].at("on", base.anatomy.layers)
            live.set_live(base, name, shares, ids, options.length - 8 if options.what == "decode" else 0)
        under = lambda: base.using(name)  # noqa: E731
    if options.what == "decode":
        step = steps.decode(model, ids, options.length - 8, under)
    elif options.what == "prefill":
        step = steps.prefill(model, ids, under)
    elif name == "peft-lora":
        step = steps.train(model, [p for n, p in model.named_parameters() if "lora_" in n], ids)
    elif name == "bare":
        step = steps.train(model, model.parameters(), ids)  # full fine-tuning
    else:
        step = steps.train_module(base, name, ids)
    before = resident("VmRSS")
    RESET.write_text("5", encoding="ascii")
    step.seconds()
    print(json.dumps({**vars(options), "before": round(before), "peak": round(resident("VmHWM"))}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
