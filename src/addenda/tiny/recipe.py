"""Makes the embedded base from the data folder: python -m addenda.tiny.recipe --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

    from .training import Trainer


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m addenda.tiny.recipe", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--work", type=Path, required=True, help="where the run lives")
    parser.add_argument("--tokens", default="40M", help="tokens of the whole run, such as 40M")
    parser.add_argument("--variant", choices=("glu", "mlp"), default="glu")
    parser.add_argument("--until", help="end this piece after 600s or at 10M tokens; run again to go on")
    parser.add_argument("--out", type=Path, help="write the model there at the end")
    parser.add_argument("--export-only", action="store_true", help="write --out from the checkpoint")
    parser.add_argument("--prepare-only", action="store_true", help="make the corpus and stop")
    parser.add_argument("--score-tokens", type=int, default=100_000, help="held-out tokens scored for each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="single-thread processes that train")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args(arguments)


def say(message: object) -> None:
    """Tells the person who runs this, on standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def _progress(trainer: Trainer) -> tuple[Progress | None, Callable[[dict[str, Any]], None]]:
    """A progress bar on a terminal, a line every 20 steps elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        steps = [0]

        def line(record: dict[str, Any]) -> None:
            steps[0] += 1
            if steps[0] % 20 == 1:
                left = (trainer.settings.tokens - record["tokens"]) / record["tokens_per_second"]
                say({**record, "minutes_left": round(left / 60, 1)})

        return None, line
    bar = Progress(
        TextColumn("{task.completed:,} tokens"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]} at {task.fields[speed]} tokens/s"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task("", completed=trainer.seen, total=trainer.settings.tokens, loss="-", speed="-")

    def update(record: dict[str, Any]) -> None:
        bar.update(
            task,
            completed=record["tokens"],
            total=trainer.settings.tokens,
            loss=record["loss"],
            speed=record["tokens_per_second"],
        )

    return bar, update


def _limits(until: str | None) -> dict[str, Any]:
    from .training import count

    if not until:
        return {}
    if until.endswith("s"):
        return {"until_seconds": float(until[:-1])}
    return {"until_tokens": count(until)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares the corpus, trains, exports; each stage is skipped where it is done."""
    options = parse(arguments)
    # Threads that wait by spinning halve the speed of everybody as soon as the cores are shared;
    # read by the OpenMP library when torch loads it, hence before any import of torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .corpus import prepare, tokens_of

    say(prepare(options.data, options.work))
    if options.prepare_only:
        return 0
    from .settings import Settings
    from .training import Trainer, count, train

    if not options.export_only:
        settings = Settings(
            tokens=count(options.tokens),
            variant=options.variant,
            seed=options.seed,
            compile=not options.no_compile,
        )
        trainer = Trainer(options.work, tokens_of(options.work), settings, options.workers)
        bar, update = _progress(trainer)
        if bar:
            bar.start()
        try:
            reason = train(trainer, **_limits(options.until), on_step=update)
        finally:
            if bar:
                bar.stop()
        say(f"stopped: {reason}, at {trainer.seen:,} tokens")
        if reason != "done":
            return 0
    if options.out:
        from .export import export

        export(options.data, options.work, options.out, options.score_tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())
