"""What joint registers cost a decoded token as the context grows: read apart and joined, and concatenated as before.

    python -m benchmarks.joint_registers                                # the 150M model, 128 registers, float32
    python -m benchmarks.joint_registers --contexts 1000 --pairs 5 --out joint.json

Each ratio is to a bare decode step at the same context, interleaved pair by pair, one thread. `joined` is how registers
are read; `concatenated` is how they were read before that, and still are where no kernel gives a log-sum-exp. The cache
is filled with random keys and values: a step's time does not depend on them, and reading 16,000 tokens would take minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import DynamicCache

import addenda
from addenda.plug.base import Base
from benchmarks import models
from benchmarks.timing import CLOCKS, Others, Step, compare

#: tokens decoded in one side of a pair
TOKENS = 2
#: how registers are read; no mock stands in, for it would keep the arguments of every call: every version of the cache
WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "joined": nullcontext,
    "concatenated": lambda: patch("addenda.bases.attention.kernel_for", new=lambda *_: None),
}


def filled(base: Base, context: int) -> DynamicCache:
    """A cache of `context` tokens of one row, as drawn as the seed says."""
    torch.manual_seed(context)
    cache, anatomy = DynamicCache(config=base.model.config), base.anatomy
    for layer in range(anatomy.layers):
        keys, values = (torch.randn(1, anatomy.kv_heads, context, anatomy.head_dim) for _ in range(2))
        cache.update(keys.to(base.host.dtype()), values.to(base.host.dtype()), layer)
    return cache


def decoding(base: Base, cache: DynamicCache, under: Callable[[], AbstractContextManager[Any]]) -> Step:
    """One unit is one token after the cached ones, which is taken out of the cache again."""
    token = torch.full((1, 1), 7)

    def tokens(_: Any, clock: Callable[[], float]) -> Iterator[float]:
        for _ in range(TOKENS):
            with torch.no_grad(), under():
                began = clock()
                base.model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
                took = clock() - began
            cache.crop(-1)
            yield took

    return Step(tokens, units=TOKENS)


def measured(base: Base, context: int, pairs: int, clock: str) -> list[dict[str, Any]]:
    """One record for each way of reading registers."""
    cache, found = filled(base, context), list[dict[str, Any]]()
    bare = decoding(base, cache, base.off)
    for way, patched in WAYS.items():
        others = Others()
        with patched():
            ratio = compare(bare, decoding(base, cache, lambda: base.using("m")), pairs, clock)
        busy = others.cores()
        found.append(
            {"context": context, "way": way, **ratio.plain(), "others": None if busy is None else round(busy, 2)}
        )
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure, print a line for each context and way, and write the records."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joint_registers", description=__doc__)
    parser.add_argument("--model", choices=models.MODELS, default="150m")
    parser.add_argument("--contexts", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--registers", type=int, default=models.SLOTS)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    base = addenda.attach(models.bare(options.model, torch.float32))
    models.plugged(base, "m", addenda.Registers(count=options.registers))
    records: list[dict[str, Any]] = []
    for context in options.contexts:
        for record in measured(base, context, options.pairs, options.clock):
            records.append(record)
            print(
                f"{record['context']:>6} tokens  {record['way']:<12}  {record['median']:.3f} "
                f"[{record['low']:.3f}, {record['high']:.3f}] of a bare step of {1000 * record['seconds_a']:.0f} ms",
                flush=True,
            )
    if options.out is not None:
        settings = {name: getattr(options, name) for name in ("model", "registers", "pairs", "clock")}
        text = json.dumps({**settings, "torch": torch.__version__, "records": records}, indent=1)
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
