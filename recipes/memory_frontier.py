"""Report of the study of memories: gain on a book against forgetting, at equal forgetting, in parameters and in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from addenda.comparing.equal_gain import Curve, envelope
from recipes.drawing import canvas, dress, save
from recipes.memory_plan import PLAIN, WINDOW
from recipes.records import Records, grouped, in_part
from recipes.tables import joined, over, table, with_t_interval

COLOURS = {"locas": "#1f78b4", "locas-quiet": "#1b9e77", "gated": "#6a3d9a", "templora": "#d95f02"}
RIVAL, QUIET = "templora", "locas-quiet"
#: options that all runs of a method share
HIDDEN = ("replay", "gate")
#: runs of one book and seed, by method
ByCase = dict[tuple[str, int], dict[str, Records]]


def report(records: Records, folder: Path) -> str:
    """The tables as Markdown; the plots are written to `folder`."""
    study = in_part(records, "study")
    shown = [record for record in study or records if record["run"]["method"] in COLOURS]
    by_case = grouped(shown, lambda run: (run["book"], run["seed"]))
    cases: ByCase = {case: grouped(mine, lambda run: run["method"]) for case, mine in by_case.items()}
    if cases:
        _draw(cases, folder)
        draw_positions(records, folder)
    parts = [
        settings_table(study, "study"), _at_equal_forgetting(cases), _best(cases), _quiet(cases), _ablation(records, "starts"),
        _ablation(records, "widths"), _ablation(records, "layers"), _whole(records), settings_table(records, "sweep"),
    ]  # fmt: skip
    return joined(parts if cases else [])


def told_of(run: dict[str, Any], hidden: Collection[str] = HIDDEN) -> str:
    """A run's settings, but for those that all runs of its method have."""
    return ", ".join(f"{k} {v}" for k, v in (run["options"] | run["settings"]).items() if k not in hidden)


def lines_of(head: str, groups: Mapping[tuple[str, ...], Records]) -> list[str]:
    """One line for each group, under its names: gain, forgetting, parameters and time, over books and seeds."""
    rows = []
    for names, group in groups.items():
        gain, lost, time = (_over(group, key) for key in ("gain", "forgetting", "time"))
        rows.append((*names, len(group), gain, lost, f"{group[0]['parameters']:,}", time))
    return table(f"{head} | runs | gain, last quarter | forgotten | parameters | time over plain scoring", rows)


def _over(records: Records, key: str) -> str:
    """Mean and interval of a figure over the runs that have it: time was measured on CPUs alone."""
    values = [record[key] for record in records if record[key] is not None]
    return over(values) if values else "not timed"


def settings_table(records: Records, part: str, hidden: Collection[str] = HIDDEN) -> list[str]:
    """One line for each method and setting of a part; `hidden` options are those that its name says, or all share."""
    groups = grouped(in_part(records, part), lambda run: (run["method"], told_of(run, hidden)))
    return lines_of(f"{part}: method | settings", dict(sorted(groups.items())))


def curve_of(records: Records) -> Curve:
    """The least forgetting at which a method reaches each gain."""
    return envelope((record["gain"], record["forgetting"]) for record in records)


def at_equal_forgetting(ours: Curve, theirs: Curve, steps: int = 41) -> float | None:
    """Gain of ours over theirs at equal forgetting, a mean over the range in which both were measured.

    The range begins at the larger of the two least amounts of forgetting measured: below it a curve is but a straight line
    to the base, which would do it wrong. None where the two share no range, or one of them gained nothing anywhere.
    """
    if min(len(ours.costs), len(theirs.costs)) < 2:
        return None
    first, last = max(curve.costs[1] for curve in (ours, theirs)), min(ours.costs.max(), theirs.costs.max())
    if last <= 0 or first > last:
        return None
    grid = np.linspace(first, last, steps)
    mine, other = (np.interp(grid, curve.costs, curve.gains) for curve in (ours, theirs))
    return float(mine.sum() / other.sum()) if other.sum() > 0 else None


def _with_rival(cases: ByCase) -> Iterator[tuple[str, list[tuple[Records, Records]]]]:
    """Each method but the rival, and its runs and the rival's, case by case; none where there is no case of both."""
    for method in COLOURS:
        pairs = [(c[method], c[RIVAL]) for c in cases.values() if method != RIVAL and method in c and RIVAL in c]
        if pairs:
            yield method, pairs


def _at_equal_forgetting(cases: ByCase) -> list[str]:
    rows = []
    for method, pairs in _with_rival(cases):
        ratios = [at_equal_forgetting(curve_of(a), curve_of(b)) for a, b in pairs]
        if found := [ratio for ratio in ratios if ratio is not None]:
            rows.append((method, RIVAL, with_t_interval(found), ", ".join(f"{ratio:.2f}" for ratio in found)))
    return table("gain of | over that of | at equal forgetting, mean [95% interval] | by case", rows)


def _best(cases: ByCase) -> list[str]:
    """Each method's setting of the largest gain, against that of the rival, case by case."""
    rows = []
    for method, both in _with_rival(cases):
        pairs = [tuple(max(records, key=lambda record: record["gain"]) for records in pair) for pair in both]
        columns = (
            [a[k] / b[k] for a, b in pairs if None not in (a[k], b[k])]
            for k in ("gain", "forgetting", "parameters", "time")
        )
        rows.append((method, *(with_t_interval(column) if column else "not timed" for column in columns)))
    heads = "best setting of | its gain over that of the rival's best | its forgetting over that | parameters | time"
    return table(heads, rows)


def _quiet(cases: ByCase) -> list[str]:
    """Each quiet memory against the same memory without replay text, case by case."""
    ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for methods in cases.values():
        loud = {(str(r["run"]["options"]), r["run"]["settings"]["lr"]): r for r in methods.get("locas", ())}
        for record in methods.get(QUIET, ()):
            other = loud.get((str(record["run"]["options"]), record["run"]["settings"]["lr"]))
            if other is not None:
                gain, lost = (record[key] / other[key] for key in ("gain", "forgetting"))
                ratios[told_of(record["run"])].append((gain, lost))
    rows = (
        (told, *(with_t_interval(list(column)) for column in zip(*pairs, strict=True)), len(pairs))
        for told, pairs in sorted(ratios.items())
    )
    heads = (
        "quiet memory | its gain over that of the same memory without replay text | its forgetting over that | cases"
    )
    return table(heads, rows)


def _ablation(records: Records, part: str) -> list[str]:
    """One line for each start, width or choice of layers: gain and forgetting over books and seeds."""
    ordered = sorted(in_part(records, part), key=lambda record: (record["parameters"], -record["gain"]))
    return lines_of(part, grouped(ordered, lambda run: (run["method"],)))


def _whole(records: Records) -> list[str]:
    """Whole books: the loss over the first quarter, the first half and all, over seeds."""
    groups, rows = grouped(in_part(records, "whole"), lambda run: (run["book"], run["method"])), []
    for (book, method), group in groups.items():
        losses = [over([record["losses"][n]["nats"] for record in group]) for n in range(4)]
        lost, time = (_over(group, key) for key in ("forgetting", "time"))
        rows.append(
            (book, method, len(group), f"{group[0]['tokens']:,}", *losses, lost, f"{group[0]['parameters']:,}", time)
        )
    heads = (
        "whole book | method | runs | tokens | loss, first 25% | first 50% | all | last quarter | forgotten | parameters "
        "| time over plain scoring"
    )
    return table(heads, rows)


def _draw(cases: ByCase, folder: Path) -> None:
    figure, (axes,) = canvas(1, 7.5, 5.2)
    named: set[str] = set()
    for methods in cases.values():
        for method in (name for name in COLOURS if name in methods):
            curve = curve_of(methods[method])
            label = None if method in named else method
            axes.plot(curve.costs, curve.gains, color=COLOURS[method], lw=1.3, alpha=0.8, label=label)
            x, y = ([record[key] for record in methods[method]] for key in ("forgetting", "gain"))
            axes.scatter(x, y, s=12, color=COLOURS[method], alpha=0.5, linewidths=0)
            named.add(method)
    x, y = "forgetting: loss added on general text, nats per token", "gain over the last quarter of the book, nats"
    dress(axes, x, y, "Up and to the left is better. Each line is one book and seed", zero=True)
    axes.legend(frameon=False, fontsize=9)
    save(figure, folder / "locas")


def draw_positions(records: Records, folder: Path) -> None:
    """Draw what each method loses along a whole book against the narrowest window's loss, a panel for each book."""
    whole = in_part(records, "whole")
    bare = {r["run"]["book"]: r["by_position"] for r in whole if r["run"]["method"].endswith(f" {WINDOW}")}
    books = sorted({record["run"]["book"] for record in whole if record["run"]["kind"]} & bare.keys())
    if not books:
        return
    from matplotlib import colormaps

    figure, panels = canvas(len(books), 6, 4.4)
    methods = sorted({record["run"]["method"] for record in whole if record["run"]["book"] in books})
    for book, axes in zip(books, panels, strict=True):
        read = grouped([record for record in whole if record["run"]["book"] == book], lambda run: run["method"])
        for method, mine in sorted(read.items()):
            gained = np.array(bare[book]) - np.mean([record["by_position"] for record in mine], axis=0)
            shade = colormaps["tab10"](methods.index(method) % 10)
            dashed = "--" if method.startswith(PLAIN) else "-"
            axes.plot((np.arange(len(gained)) + 0.5) / len(gained), gained, dashed, color=shade, lw=1.4, label=method)
        told = f"taken off the loss of a window of {WINDOW}, nats per token"
        dress(axes, "position in the book", told, book.split("_")[-1], zero=True)
    panels[-1].legend(frameon=False, fontsize=8)
    save(figure, folder / "locas_positions")
