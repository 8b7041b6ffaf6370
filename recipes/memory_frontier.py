"""Report of the study of memories: gain on a book against forgetting, at equal forgetting, in parameters and in time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from recipes.frontier import Curve, Records, dress, envelope, over, save, with_t_interval

COLOURS = {"locas": "#1f78b4", "locas-quiet": "#1b9e77", "gated": "#6a3d9a", "templora": "#d95f02"}
RIVAL = "templora"
#: runs of one book and seed, by method
ByCase = dict[tuple[str, int], dict[str, Records]]


def report(records: Records, folder: Path) -> str:
    """The tables as Markdown, written with the plot to `folder`."""
    study = [one for one in records if one["run"]["part"] == "study"]
    cases: ByCase = defaultdict(lambda: defaultdict(list))
    for one in study or records:
        cases[one["run"]["book"], one["run"]["seed"]][one["run"]["method"]].append(one)
    if not cases:
        return "no runs yet"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_settings(study), _at_equal_forgetting(cases), _best(cases), _settings(records, "sweep")]
    text = "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    (folder / "locas.md").write_text(text)
    _draw(cases, folder)
    return text


def _settings(records: Records, part: str = "study") -> list[str]:
    """One line for each setting: gain, forgetting, parameters and time, over books and seeds."""
    groups: dict[tuple[str, str], Records] = defaultdict(list)
    for one in records:
        run = one["run"]
        if run["part"] == part:
            told = ", ".join(f"{k} {v}" for k, v in (run["options"] | run["settings"]).items() if k != "replay")
            groups[run["method"], told].append(one)
    lines = [
        f"| {part}: method | settings | runs | gain, last quarter | forgotten | parameters | time over plain scoring |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (method, told), found in sorted(groups.items()):
        gain, lost, time = (over([one[key] for one in found]) for key in ("gain", "forgetting", "time"))
        lines.append(f"| {method} | {told} | {len(found)} | {gain} | {lost} | {found[0]['parameters']:,} | {time} |")
    return lines if groups else []


def curve_of(records: Records) -> Curve:
    """The least forgetting at which a method reaches each gain."""
    return envelope({"gain": [one["gain"]], "forgetting": [one["forgetting"]]} for one in records)


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


def _at_equal_forgetting(cases: ByCase) -> list[str]:
    lines = [
        "| gain of | over that of | at equal forgetting, mean [95% interval] | by case |",
        "| --- | --- | --- | --- |",
    ]
    for method in COLOURS:
        pairs = [(c[method], c[RIVAL]) for c in cases.values() if method != RIVAL and method in c and RIVAL in c]
        found = [at_equal_forgetting(curve_of(a), curve_of(b)) for a, b in pairs]
        kept = [one for one in found if one is not None]
        if kept:
            each = ", ".join(f"{one:.2f}" for one in kept)
            lines.append(f"| {method} | {RIVAL} | {with_t_interval(kept)} | {each} |")
    return lines if len(lines) > 2 else []


def _best(cases: ByCase) -> list[str]:
    """Each method's setting of the largest gain, against that of the rival, case by case."""
    lines = [
        "| best setting of | its gain over that of the rival's best | its forgetting over that | parameters | time |",
        "| --- | --- | --- | --- | --- |",
    ]

    def top(records: Records) -> dict[str, Any]:
        return max(records, key=lambda one: one["gain"])

    for method in COLOURS:
        pairs = [
            (top(c[method]), top(c[RIVAL])) for c in cases.values() if method != RIVAL and method in c and RIVAL in c
        ]
        if pairs:
            ratios = (
                with_t_interval([a[k] / b[k] for a, b in pairs]) for k in ("gain", "forgetting", "parameters", "time")
            )
            lines.append(f"| {method} | " + " | ".join(ratios) + " |")
    return lines if len(lines) > 2 else []


def _draw(cases: ByCase, folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 5.2), constrained_layout=True)
    named: set[str] = set()
    for methods in cases.values():
        for method in (one for one in COLOURS if one in methods):
            curve = curve_of(methods[method])
            label = None if method in named else method
            axes.plot(curve.costs, curve.gains, color=COLOURS[method], lw=1.3, alpha=0.8, label=label)
            x, y = ([one[key] for one in methods[method]] for key in ("forgetting", "gain"))
            axes.scatter(x, y, s=12, color=COLOURS[method], alpha=0.5, linewidths=0)
            named.add(method)
    dress(
        axes, "forgetting: loss added on general text, nats per token", "gain over the last quarter of the book, nats"
    )
    axes.legend(frameon=False, fontsize=9)
    axes.set_title("Up and to the left is better. Each line is one book and seed", fontsize=10)
    save(figure, folder / "locas")
