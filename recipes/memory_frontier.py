"""Report of the study of memories: gain on a book against forgetting, at equal forgetting, in parameters and in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from addenda.comparing.equal_gain import Curve, envelope
from recipes.frontier import dress, save
from recipes.memory_plan import PLAIN, WINDOW
from recipes.records import Records
from recipes.tables import joined, over, table, with_t_interval

COLOURS = {"locas": "#1f78b4", "locas-quiet": "#1b9e77", "gated": "#6a3d9a", "templora": "#d95f02"}
RIVAL, QUIET = "templora", "locas-quiet"
#: options that all runs of a method share
HIDDEN = ("replay", "gate")
#: runs of one book and seed, by method
ByCase = dict[tuple[str, int], dict[str, Records]]


def report(records: Records, folder: Path) -> str:
    """The tables as Markdown; the plots are written to `folder`."""
    study = [record for record in records if record["run"]["part"] == "study"]
    cases: ByCase = defaultdict(lambda: defaultdict(list))
    for record in study or records:
        if record["run"]["method"] in COLOURS:
            cases[record["run"]["book"], record["run"]["seed"]][record["run"]["method"]].append(record)
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
    groups: dict[tuple[str, ...], Records] = defaultdict(list)
    for record in records:
        run = record["run"]
        if run["part"] == part:
            groups[run["method"], told_of(run, hidden)].append(record)
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
    groups: dict[tuple[str, ...], Records] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r["parameters"], -r["gain"])):
        if record["run"]["part"] == part:
            groups[(record["run"]["method"],)].append(record)
    return lines_of(part, groups)


def _whole(records: Records) -> list[str]:
    """Whole books: the loss over the first quarter, the first half and all, over seeds."""
    groups: dict[tuple[str, str], Records] = defaultdict(list)
    for record in records:
        if record["run"]["part"] == "whole":
            groups[record["run"]["book"], record["run"]["method"]].append(record)
    rows = []
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 5.2), constrained_layout=True)
    named: set[str] = set()
    for methods in cases.values():
        for method in (name for name in COLOURS if name in methods):
            curve = curve_of(methods[method])
            label = None if method in named else method
            axes.plot(curve.costs, curve.gains, color=COLOURS[method], lw=1.3, alpha=0.8, label=label)
            x, y = ([record[key] for record in methods[method]] for key in ("forgetting", "gain"))
            axes.scatter(x, y, s=12, color=COLOURS[method], alpha=0.5, linewidths=0)
            named.add(method)
    dress(
        axes, "forgetting: loss added on general text, nats per token", "gain over the last quarter of the book, nats"
    )
    axes.legend(frameon=False, fontsize=9)
    axes.set_title("Up and to the left is better. Each line is one book and seed", fontsize=10)
    save(figure, folder / "locas")


def draw_positions(records: Records, folder: Path) -> None:
    """Draw what each method loses along a whole book against the narrowest window's loss, a panel for each book."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    whole = [record for record in records if record["run"]["part"] == "whole"]
    books = sorted({record["run"]["book"] for record in whole})
    bare = {
        record["run"]["book"]: record["by_position"]
        for record in whole
        if record["run"]["method"].endswith(f" {WINDOW}")
    }
    books = [
        book
        for book in books
        if book in bare and any(record["run"]["book"] == book and record["run"]["kind"] for record in whole)
    ]
    if not books:
        return
    figure, panels = plt.subplots(1, len(books), figsize=(6 * len(books), 4.4), squeeze=False, constrained_layout=True)
    methods = sorted({record["run"]["method"] for record in whole if record["run"]["book"] in books})
    for book, axes in zip(books, panels[0], strict=True):
        seeds: dict[str, list[list[float]]] = defaultdict(list)
        for record in whole:
            if record["run"]["book"] == book:
                seeds[record["run"]["method"]].append(record["by_position"])
        for method, curves in sorted(seeds.items()):
            gained = np.array(bare[book]) - np.mean(curves, axis=0)
            shade = plt.get_cmap("tab10")(methods.index(method) % 10)
            dashed = "--" if method.startswith(PLAIN) else "-"
            axes.plot((np.arange(len(gained)) + 0.5) / len(gained), gained, dashed, color=shade, lw=1.4, label=method)
        dress(axes, "position in the book", f"taken off the loss of a window of {WINDOW}, nats per token")
        axes.set_title(book.split("_")[-1], fontsize=10)
    panels[0][-1].legend(frameon=False, fontsize=8)
    save(figure, folder / "locas_positions")
