"""Registers: what becomes of their output, which gate, which start, how many, on which subject."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

from addenda.kinds.registers import Mode
from recipes.drawing import COLOURS, canvas, dress, save
from recipes.records import Records, grouped
from recipes.studies import page
from recipes.studies.page import table
from recipes.studies.plan import Scale, Way, edges, of_part, rates
from recipes.studies.plan import sweep as plan_sweep
from recipes.studies.run import Run

STUDY = "registers"
COUNT = 128
WAYS = {
    "joint": Way("Registers", {"count": COUNT, "init": "text"}, {}, (1e-2, 3e-2, 1e-1, 3e-1)),
    "neutral": Way(
        "Registers", {"count": COUNT, "init": "text", "gate": "neutral"}, {"local": 0.1}, (1e-2, 3e-2, 1e-1)
    ),
}
PUBMED, OTHERS = "pubmed", ("wiki", "law")
TOKENS = 300_000
MODES, STARTS, COUNTS = get_args(Mode), ("zeros", "text"), (16, 64, 256, 1024)


def sweep(scale: Scale) -> Iterator[Run]:
    """Both gates' rates."""
    return plan_sweep(STUDY, WAYS, (PUBMED,), scale)


def then(records: Records, scale: Scale) -> Iterator[Run]:
    """Four modes by two gates by two starts; counts; other subjects."""
    chosen = rates(records, STUDY, WAYS, PUBMED, scale)
    for seed, (gate, lr) in product(scale.seeds, chosen.items()):
        way, more = WAYS[gate], {"lr": lr, "seed": seed, "tokens": TOKENS}
        for name in OTHERS:
            yield scale.run(way, STUDY, "subjects", gate, name, **more)
        for mode, start in product(MODES[:2] if scale.thin else MODES, STARTS[-1:] if scale.thin else STARTS):
            options = {"mode": mode, "init": start}
            yield scale.run(way, STUDY, "modes", f"{gate}, {mode}, {start}", PUBMED, **more, options=options)
        for count in COUNTS[:1] if scale.thin else COUNTS:
            yield scale.run(way, STUDY, "counts", gate, PUBMED, **more, options={"count": count})


def report(records: Records, folder: Path) -> str:
    """Tables as Markdown, and the figure, written to `folder`."""
    cells = (page.own_gain, page.forgotten, page.untouched, page.parameters)
    tail = ("runs", "gain, nats", "forgotten, nats", "general tokens left bit-equal", "parameters")
    modes = grouped(of_part(records, STUDY, "modes"), lambda run: tuple(run["method"].split(", ")))
    counted = _by_count(records)
    subjects = of_part(records, STUDY, "subjects") + [
        record for record in of_part(records, STUDY, "modes") if record["run"]["method"].endswith(", drop, text")
    ]
    by_subject = grouped(subjects, lambda run: (run["subject"], run["method"].split(", ")[0]))
    sweeps = sorted(of_part(records, STUDY, "sweep"), key=lambda record: (record["run"]["method"], record["run"]["lr"]))
    swept = grouped(sweeps, lambda run: (run["method"], f"{run['lr']:g}"))
    tried = table(("gate", "lr", "runs", "gain, nats", "forgotten, nats"), swept, cells[:2])
    parts = [
        ("Modes, gates and starts, 128 registers, PubMed", table(("gate", "mode", "start", *tail), modes, cells)),
        ("How many, PubMed", table(("registers", "gate", *tail), counted, cells)),
        ("Subjects, 128 registers", table(("subject", "gate", *tail), by_subject, cells)),
        ("Sweep", page.noted(tried, edges(records, STUDY))),
    ]
    if counted:
        _draw(counted, folder)
    return page.written(parts, of_part(records, STUDY, "modes", "counts", "subjects"))


def _by_count(records: Records) -> dict[tuple[int, str], Records]:
    """By number of registers and gate; those of the grid of modes among them."""
    runs = of_part(records, STUDY, "counts")
    runs += [record for record in of_part(records, STUDY, "modes") if record["run"]["method"].endswith(", drop, text")]
    groups = grouped(runs, lambda run: (run["options"]["count"], run["method"].split(", ")[0]))
    return dict(sorted(groups.items()))


def _draw(counted: dict[tuple[int, str], Records], folder: Path) -> None:
    figure, (left, right) = canvas(2)
    for gate in WAYS:
        mine = [(count, group) for (count, name), group in counted.items() if name == gate]
        if not mine:
            continue
        counts = [count for count, _ in mine]
        for axes, value in ((left, page.gain), (right, page.lost)):
            y, *dy = zip(*(page.bars(group, value) for _, group in mine), strict=True)
            axes.errorbar(counts, y, dy, fmt="o-", ms=4, capsize=2, color=COLOURS[gate], label=f"{gate} gate")
    for axes, told in ((left, "gain on medical text, nats"), (right, "forgotten: loss added on general text, nats")):
        page.at_values(axes, (count for count, _ in counted), 2)
        dress(axes, "registers per layer", told)
    left.legend(frameon=False, fontsize=8)
    save(figure, folder / STUDY)
