"""Makes the embedded base from the data folder: python -m addenda.tiny.recipe --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m addenda.tiny.recipe", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--work", type=Path, required=True, help="where the run lives; the same command goes on there")
    parser.add_argument("--tokens", type=int, default=40_000_000, help="of the whole run; may change on the way")
    parser.add_argument("--out", type=Path, help="write the model there at the end")
    parser.add_argument("--export-only", action="store_true", help="write --out from the checkpoint")
    parser.add_argument("--prepare-only", action="store_true", help="make the corpus and stop")
    parser.add_argument("--score-tokens", type=int, default=100_000, help="held-out tokens scored for each set")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares the corpus, trains, exports; each stage is skipped where it is done. Ctrl-C ends it with a checkpoint."""
    options = parse(arguments)
    # Threads that wait by spinning halve the speed of everybody as soon as the cores are shared;
    # read by the OpenMP library when torch loads it, hence before any import of torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .corpus import prepare, tokens_of

    sys.stderr.write(f"{prepare(options.data, options.work)}\n")
    if options.prepare_only:
        return 0
    from .export import export
    from .training import Settings, Trainer

    if not options.export_only:
        settings = Settings(tokens=options.tokens, seed=options.seed)
        Trainer(options.work, tokens_of(options.work), settings).run()
    if options.out:
        export(options.data, options.work, options.out, options.score_tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())
