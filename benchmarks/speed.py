"""Speed and memory of plugged bases, in one process run: every kind beside the bare base and beside PEFT's LoRA.

    python -m benchmarks.speed                                  # everything: tiny and the 150M model, float32
    python -m benchmarks.speed --models tiny --sections off use --pairs 15 --out speed.json

Each number is the median over interleaved pairs of the ratio of two times, with its 95% interval; `noise` is that of
the bare base against a copy of itself, measured the same way. Rows whose target is missed say so; the exit code stays 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import live, models, sections, speed_page
from benchmarks.bench import Bench
from benchmarks.timing import CLOCKS, QUIET, Others

#: the smallest number of pairs that an interval of a median is worth printing for
LEAST = 7


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=models.MODELS, default=["tiny", "150m"])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--sections", nargs="+", choices=list(sections.ALL), default=list(sections.ALL))
    parser.add_argument("--kinds", nargs="+", help="kinds in section use, mixed and memory; default all")
    parser.add_argument("--steps", nargs="+", choices=["decode", "prefill", "train"], help="only these; default all")
    parser.add_argument("--pairs", type=int, default=9, help=f"pairs per ratio; below {LEAST} only to try things out")
    parser.add_argument("--length", type=int, default=512, help="tokens of a prefill and a training step")
    parser.add_argument("--live", type=Path, help="live shares by kind and layer, as benchmarks.live writes them")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu, to develop on a loaded machine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the JSON here, after every ratio")
    parser.add_argument("--docs", type=Path, help="write speed.json and speed.md to this folder, e.g. docs/results")
    parser.add_argument("--json", action="store_true", help="print the JSON as one line instead of tables")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(argv)
    torch.set_num_threads(options.threads)
    records: list[dict[str, Any]] = []
    shares = live.read_shares(options.live)
    report = {"machine": machine(), "live": {kind: s.source for kind, s in shares.items()}, "records": records}
    whole = Others()
    ran = {key: report["machine"][key] for key in ("date", "command")}

    def done(record: dict[str, Any]) -> None:
        records.append(record | ran | {"live_source": live.source_of(record, shares)})
        report["others_used_cores"] = whole.cores()
        if "median" in record:
            ratio = f"{record['median']:.3f} [{record['low']:.3f}, {record['high']:.3f}]"
            what = f"{record['section']}: {record['step']}, {record['a']} -> {record['b']}"
            print(f"{record['model']} {what}: {ratio}", file=sys.stderr, flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    for dtype in options.dtypes:
        for model in options.models:
            how = (options.pairs, options.length, options.clock, options.kinds)
            bench = Bench(model, getattr(torch, dtype), *how, shares, done, options.steps)
            sections.run(bench, options.sections)
    if options.docs is not None:
        speed_page.publish(report, shares, options.docs)
    if options.json:
        print(json.dumps(report))
        return 0
    print(speed_page.markdown(report))
    busy = whole.cores()
    if busy is not None:
        quiet = "a quiet machine" if busy < QUIET else "a loaded machine: make no claim from these numbers"
        print(f"others kept {busy:.2f} of {os.cpu_count()} cores busy: {quiet}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
