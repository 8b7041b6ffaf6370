"""FFNs left out of a real base: how many, what it costs on held-out text, and what time it saves.

    python -m recipes.methods_kinds                  # makes the records of docs/results/methods/kinds
    python -m recipes.methods_kinds --report         # the table of the records there are

On `smollm2`, WikiText-2: the first half of its validation text says where, the second is scored. `FFNSkip` decides token by
token; the plain alternative leaves the same number of FFNs out of every token, in the layers whose FFN turns the residual
stream least. Times are of reading 256 tokens and of decoding one, with and without in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.plug.scoring import Score, score
from recipes.common import data_folder, documents, load, precision
from recipes.records import LATER, Named, Records, recorded, stamp
from recipes.study import conduct, parser_of

LENGTH, HELD, FIRST, LAST = 256, 4_000, 2, 2
#: shares of the middle layers' FFNs for FFNSkip, and how many whole layers' for the plain way
SKIPS, LAYERS = (0.05, 0.1, 0.2, 0.3), (1, 3, 5, 8)
#: how much text says where, in characters
SAID = 12_000


@dataclass(frozen=True)
class Cell(Named):
    """A way to leave FFNs out: `skip` with a share, `layers` with a number."""

    FRONT = ("ffn", "way", "much")
    way: str
    much: float
    trained: int = 0
    where: str = "smollm2"
    span: int = field(default=0, metadata=LATER)


def texts() -> tuple[list[str], list[str]]:
    """Text that says where, and text that is scored."""
    all_of = documents(data_folder() / "wikitext2/valid.jsonl.gz")
    return all_of[: len(all_of) // 2], all_of[len(all_of) // 2 :]


@contextmanager
def run_on(base: addenda.Base) -> Iterator[list[int]]:
    """How many tokens each layer's FFN is run on, once the block has ended."""
    found = [0] * len(base.host.layers)

    def note(number: int) -> Callable[..., None]:
        def hook(_: Any, args: tuple[Any, ...]) -> None:
            found[number] += args[0][..., 0].numel()

        return hook

    with ExitStack() as stack:
        for number, layer in enumerate(base.host.layers):
            down = layer.get_submodule(base.host.table.units.down)  # type: ignore[union-attr]
            stack.callback(down.register_forward_pre_hook(note(number)).remove)
        yield found


@contextmanager
def without(base: addenda.Base, layers: Sequence[int]) -> Iterator[None]:
    """The base without the FFNs of some layers."""
    ffns: list[Any] = [base.host.submodule(base.host.site(f"layers.{number}.ffn").path) for number in layers]
    for ffn in ffns:
        ffn.forward = torch.zeros_like
    try:
        yield
    finally:
        for ffn in ffns:
            del ffn.forward


def turned_least(base: addenda.Base, text: str, count: int) -> list[int]:
    """The middle layers whose FFN turns the residual stream least."""
    keys = [f"layers.{number}.ffn" for number in range(FIRST, base.anatomy.layers - LAST)]
    found = base.reader.residuals(keys, base.tokenize(text))
    cosines = {key: float(torch.cosine_similarity(*found[key], dim=-1).mean()) for key in keys}
    return [int(key.split(".")[1]) for key in sorted(cosines, key=lambda key: -cosines[key])[:count]]


@cache
def bare_of(where: str) -> tuple[addenda.Base, Score]:
    """The base, and its loss."""
    base = load(where)
    return base, score(base, texts()[1], tokens=HELD, length=LENGTH, precision=precision())


@torch.no_grad()
def times(base: addenda.Base, text: str, selected: Callable[[], Any], rounds: int = 9) -> dict[str, list[float]]:
    """Milliseconds to read LENGTH tokens and to decode one after them, bare and not, in turn."""
    ids = base.tokenize(text)[: LENGTH + 8][None]
    found: dict[str, list[float]] = {"read": [], "read bare": [], "decode": [], "decode bare": []}
    for _ in range(rounds):
        for bare in (True, False):
            with base.off() if bare else selected():
                start = time.perf_counter()
                cache = base.model(ids[:, :LENGTH], use_cache=True).past_key_values
                middle = time.perf_counter()
                for at in range(LENGTH, LENGTH + 8):
                    base.model(ids[:, at : at + 1], past_key_values=cache)
                end = time.perf_counter()
            found["read" + " bare" * bare].append(1000 * (middle - start))
            found["decode" + " bare" * bare].append(1000 * (end - middle) / 8)
    return found


def make(cell: Cell, folder: Path) -> str:
    """Set it up, score, count, time, write the record."""
    (base, bare), (calibration, held) = bare_of(cell.where), texts()
    base.use()
    for name in list(base.modules):
        base.unplug(name)
    said = "\n\n".join(calibration)[:SAID]
    if cell.way == "skip":
        base.new("m", addenda.FFNSkip(skip=cell.much, first=FIRST, last=LAST, span=cell.span or None), text=said)
        if cell.trained:
            addenda.train(
                base,
                "m",
                corpus=calibration,
                tokens=cell.trained,
                length=LENGTH,
                batch_rows=4,
                log=False,
                precision=precision(),
            )
    layers = turned_least(base, said, int(cell.much)) if cell.way == "layers" else []

    def selected() -> Any:
        return base.using("m") if cell.way == "skip" else without(base, layers)

    with selected(), run_on(base) as ran:
        now = score(base, held, tokens=HELD, length=LENGTH, precision=precision())
    left = 1 - sum(ran) / (max(ran) * len(ran))
    change = now.minus(bare)
    took = {name: statistics.median(values) for name, values in times(base, held[0] * 3, selected).items()}
    record = {"bare": float(bare), "rise": [change.nats, change.low, change.high], "left out": left, "ms": took}
    return recorded(cell, folder, stamp(cell) | record | {"by layer": [1 - n / max(ran) for n in ran]})


def report(records: Records, folder: Path) -> str:
    """One row a way."""
    lines = [f"{'way':30}{'left out':>10}{'loss rises by (95%)':>28}{'reading':>10}{'decoding':>10}"]
    for record in sorted(records, key=lambda one: (one["run"]["way"], one["run"]["trained"], one["left out"])):
        run, (nats, low, high), took = record["run"], record["rise"], record["ms"]
        way = f"{run['way']} {run['much']:g}" + (f", {run['trained']:,} tokens" if run["trained"] else "")
        way += f", span {run['span']}" if run.get("span") else ""
        ratios = [f"{took[part] / took[f'{part} bare']:.2f}" for part in ("read", "decode")]
        rise = f"{nats:+.4f} ({low:+.4f} {high:+.4f})"
        lines.append(f"{way:30}{record['left out']:>10.1%}{rise:>28}{ratios[0]:>10}{ratios[1]:>10}")
    return "\n".join(lines)


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Both ways, and one more cell whose stand-ins learn."""
    yield from (Cell("skip", much, where=given.base) for much in SKIPS)
    yield from (Cell("layers", much, where=given.base) for much in LAYERS)
    yield Cell("skip", SKIPS[1], given.trained, where=given.base)
    yield from (Cell("skip", much, where=given.base, span=1) for much in SKIPS[1:3])


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then tell the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--base", default="smollm2")
    parser.add_argument(
        "--trained", type=int, default=4_096, help="tokens that the stand-ins of one more cell learn from"
    )
    conduct("methods/kinds", parser.parse_args(words), [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
