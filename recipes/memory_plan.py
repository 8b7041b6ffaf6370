"""Plan of the study of memories: which method reads which stretch of which book, with which settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, get_args, get_type_hints

from addenda.kinds.locas_glu import LocasGLU
from recipes.records import Records, grouped, in_part, name_of

BOOKS = ("Dickens_Bleak", "Eliot_Daniel", "Gaskell_Wives", "Blackmore_Lorna", "Trollope_Phineas")
#: books short enough to be read from end to end
WHOLE = ("pg19test_10146_Reminiscences", "pg19test_10321_Dragons")
WINDOW, CHUNK = 512, 256
#: windows of a base without a memory: the one that all methods read from, a wider one, and all that `tiny` can read
WINDOWS = (WINDOW, 1024, 2048)
#: settings of each method that go on from the sweep to all books and seeds
KEPT = 3
WIDTHS = (8, 16, 32, 64, 128)
#: a memory in half of the layers only; the upper half needs no backward pass below it
LAYERS = ({"layers": [3, 4, 5]}, {"layers": [3, 4, 5], "rank": 64}, {"layers": [0, 1, 2], "rank": 64})
#: between the rates and weights that the sweep's front gave: options and settings of what `addenda.memorize` does by default
DEFAULT = {"rank": 32, "scale": 16.0}, {"lr": 4e-3, "local": 0.3, "replay": True, "replay_tokens": 64}
#: twice as much general text, and its loss teaches lower layers too: how quiet memories were swept, before this was known to
#: cost time alone
WHOLE_GRADIENT = {"replay_tokens": 128, "through": True}
#: what reads without a memory
PLAIN = "truncation"

Grid = Iterable[tuple[dict[str, Any], dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """One reading of a book; `method` is the curve it belongs to. Seed n reads the n-th stretch of so many tokens."""

    part: str
    method: str
    book: str
    kind: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    #: None: all of the book
    tokens: int | None = None
    seed: int = 0
    window: int = WINDOW

    @property
    def id(self) -> str:
        """A short name that changes with every option."""
        return name_of(self, self.part, self.method, self.book.split("_")[0].lower(), self.seed)


def grids() -> dict[str, tuple[str, Grid]]:
    """Kind, options and settings of every point of each method's sweep."""
    rates, quiet = (1e-3, 4e-3, 1.6e-2), {"replay": True} | WHOLE_GRADIENT
    # where tau lets values say little, they take larger steps
    loud = [*product((1.0, 4.0), (4e-3, 1.6e-2, 6.4e-2)), *product((16.0, 32.0), rates)]
    silent = product((16.0, 32.0), (4e-3, 1.6e-2), (0.1, 0.3, 1.0))
    return {
        "locas": ("LocasGLU", [({"rank": 32, "scale": s}, {"lr": lr}) for s, lr in loud]),
        "locas-quiet": (
            "LocasGLU",
            [({"rank": 32, "scale": s}, {"lr": lr, "local": local} | quiet) for s, lr, local in silent],
        ),
        "gated": (
            "NeutralResidues",
            [({"width": 32, "gate": "context"}, {"lr": lr, "local": 0.0} | quiet) for lr in rates],
        ),
        "templora": ("LoRA", [({"rank": r}, {"lr": lr}) for r, lr in product((4, 16), (3e-4, 1e-3, 3e-3))]),
    }


def sweep(tokens: int) -> list[Run]:
    """Every method's grid on the first book."""
    return [
        Run("sweep", method, BOOKS[0], kind, options, settings, tokens)
        for method, (kind, grid) in grids().items()
        for options, settings in grid
    ]


def swept(records: Records, method: str) -> Records:
    """The runs of a method's sweep."""
    return [record for record in in_part(records, "sweep") if record["run"]["method"] == method]


def best(records: Records, method: str) -> list[dict[str, Any]]:
    """The runs of a method's sweep that none other of its own betters, at most `KEPT`, evenly spread by gain."""
    mine = swept(records, method)
    front = [
        record
        for record in mine
        if record["gain"] > 0
        and not any(
            o["gain"] >= record["gain"] and o["forgetting"] < record["forgetting"] for o in mine if o is not record
        )
    ]
    front.sort(key=lambda record: record["gain"])
    places = sorted({round(n * (len(front) - 1) / max(1, KEPT - 1)) for n in range(KEPT)}) if front else []
    return [front[place]["run"] for place in places]


def twin(run: dict[str, Any]) -> dict[str, Any]:
    """The same memory without replay text."""
    return run | {"method": "locas", "settings": {"lr": run["settings"]["lr"]}}


def study(records: Records, tokens: int, seeds: Iterable[int], books: Iterable[str]) -> list[Run]:
    """The best settings of each method on every book, seed after seed; and of each quiet memory its twin."""
    chosen = {method: best(records, method) for method in grids()}
    if chosen["locas-quiet"]:
        for settings in (DEFAULT[1], DEFAULT[1] | {"replay_tokens": 128}, DEFAULT[1] | WHOLE_GRADIENT):
            quiet = _default(settings)
            if not any(_same(quiet, other) for other in chosen["locas-quiet"]):
                chosen["locas-quiet"].append(quiet)
    for loud in map(twin, chosen["locas-quiet"]):
        if not any(_same(loud, other) for other in chosen["locas"]):
            chosen["locas"].append(loud)
    return [
        Run("study", method, book, run["kind"], run["options"], run["settings"], tokens, seed)
        for seed, book in product(seeds, books)
        for method, runs in chosen.items()
        for run in runs
    ]


def _default(settings: dict[str, Any]) -> dict[str, Any]:
    return {"method": "locas-quiet", "kind": "LocasGLU", "options": DEFAULT[0], "settings": settings}


def _same(run: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(run[key] == other[key] for key in ("kind", "options", "settings"))


def top(records: Records, method: str) -> dict[str, Any] | None:
    """The settings of a method that gained most over the books of the study; in the sweep where there is no study yet."""
    runs = [record for record in in_part(records, "study") if record["run"]["method"] == method]
    gains = grouped(runs or swept(records, method), lambda run: str((run["options"], run["settings"])))
    best = max(gains.values(), key=lambda same: sum(record["gain"] for record in same) / len(same), default=None)
    return None if best is None else best[0]["run"]


def ablations(records: Records, tokens: int, seeds: Iterable[int], books: Iterable[str]) -> Iterator[Run]:
    """Every start, every width and halves of the layers for the memory that gained most, on every book."""
    run = top(records, "locas")
    if run is None:
        return
    starts = get_args(get_type_hints(LocasGLU)["init"])
    for seed, book in product(seeds, books):
        for part, changes in (
            ("starts", [{"init": start} for start in starts]),
            ("widths", [{"rank": width} for width in WIDTHS]),
            ("layers", LAYERS),
        ):
            for change in changes:
                told = ", ".join(f"{key} {value}" for key, value in change.items())
                yield Run(part, told, book, run["kind"], run["options"] | change, run["settings"], tokens, seed)


def whole(records: Records) -> Iterator[Run]:
    """Whole books: windows without a memory; what gained most of Locas and of TempLoRA at several sizes, and the default.

    One reading of each: Locas draws nothing, and readings by TempLoRA with other seeds differed by 0.002 nats.
    """
    sizes = {"locas": ("rank", (8, 32, 128)), "locas-quiet": ("rank", (32,)), "templora": ("rank", (4, 16, 64))}
    for book in WHOLE:
        for window in WINDOWS:
            yield Run("whole", f"{PLAIN} {window}", book, window=window)
        for method, (option, values) in sizes.items():
            run = _default(DEFAULT[1]) if method == "locas-quiet" else top(records, method)
            for value in values if run is not None else ():
                yield Run(
                    "whole", f"{method} {option} {value}", book, run["kind"], run["options"] | {option: value}, run["settings"]
                )  # fmt: skip
