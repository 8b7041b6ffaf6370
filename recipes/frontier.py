"""Curves of gain against forgetting: lower envelopes, ratios at equal gain with intervals, a table and a plot."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {
    "full": "#7f7f7f", "lora": "#d95f02", "adapter": "#e6ab02", "neutral-token": "#1b9e77", "neutral-context": "#1f78b4",
    "registers-joint": "#b15928", "registers-neutral": "#6a3d9a", "registers-context": "#a6cee3",
}  # fmt: skip
#: whose forgetting is compared with whose, at equal gain
PAIRS = (
    ("neutral-token", "lora"), ("neutral-token", "adapter"), ("neutral-token", "full"),
    ("neutral-context", "lora"), ("neutral-context", "adapter"), ("neutral-context", "full"),
    ("neutral-context", "neutral-token"),
    ("registers-neutral", "registers-joint"), ("registers-context", "registers-joint"),
)  # fmt: skip

Curve = tuple[np.ndarray, np.ndarray]


def envelope(points: list[dict[str, Any]]) -> Curve:
    """The least forgetting at which a method reaches at least each gain, from the origin: gains rising, forgetting too.

    The base itself (no gain, nothing forgotten) belongs to every curve. Negative forgetting counts as none.
    """
    pairs = sorted(
        {(max(0.0, p["gain"][0]), max(0.0, p["forgetting"][0])) for p in points} | {(0.0, 0.0)}, reverse=True
    )
    kept: list[tuple[float, float]] = []
    least = np.inf
    for gain, forgetting in pairs:
        if forgetting < least:
            kept.append((gain, forgetting))
            least = forgetting
    gains, costs = zip(*reversed(kept), strict=True)
    return np.array(gains), np.array(costs)


def at_equal_gain(ours: Curve, theirs: Curve, steps: int = 21) -> tuple[float, float, float] | None:
    """Mean ratio of forgetting over the gains both curves reach (upper half of the range), and that range's ends."""
    top = min(ours[0].max(), theirs[0].max())
    if top <= 0:
        return None
    grid = np.linspace(top / 2, top, steps)
    mine, other = np.interp(grid, *ours), np.interp(grid, *theirs)
    return float(mine.sum() / max(other.sum(), 1e-9)), float(grid[0]), float(grid[-1])


def report(records: list[dict[str, Any]], folder: Path) -> str:
    """The table as Markdown, written with `frontier.svg` and `frontier.png` to `folder`."""
    by_method: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    alone: dict[str, list[float]] = defaultdict(list)
    for record in records:
        run = record["run"]
        by_method[run["method"]][run["seed"]] += record["points"]
        if "alone" in record:
            alone[run["method"]].append(record["alone"]["share"])
    if not by_method:
        return "no runs yet"
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*_best(by_method, alone), "", *_ratios(by_method)])
    (folder / "learning_forgetting.md").write_text(text + "\n")
    _draw(by_method, folder)
    return text


def _best(by_method: dict[str, Any], alone: dict[str, list[float]]) -> list[str]:
    lines = [
        "| method | seeds | runs' points | largest gain | forgotten there | general tokens left bit-equal, by run |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method, seeds in sorted(by_method.items()):
        tops = [max(points, key=lambda p: p["gain"][0]) for points in seeds.values()]
        gain, cost = ([t[key][0] for t in tops] for key in ("gain", "forgetting"))
        shares = ", ".join(f"{share:.0%}" for share in sorted(set(alone[method]))) or "-"
        count = sum(len(points) for points in seeds.values())
        lines.append(f"| {method} | {len(seeds)} | {count} | {_spread(gain)} | {_spread(cost)} | {shares} |")
    return lines


def _ratios(by_method: dict[str, Any]) -> list[str]:
    lines = [
        "| forgetting of | against | gains compared, nats | ratio at equal gain, mean over seeds | 95% interval | by seed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for ours, theirs in PAIRS:
        seeds = sorted(by_method[ours].keys() & by_method[theirs].keys()) if ours in by_method else []
        found = [at_equal_gain(envelope(by_method[ours][s]), envelope(by_method[theirs][s])) for s in seeds]
        kept = [one for one in found if one is not None]
        if not kept:
            continue
        ratios = [one[0] for one in kept]
        low, high = np.mean([one[1] for one in kept]), np.mean([one[2] for one in kept])
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        lines.append(
            f"| {ours} | {theirs} | {low:.2f} to {high:.2f} | {np.mean(ratios):.2f} | {_interval(ratios)} | {each} |"
        )
    return lines


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")


def _interval(values: list[float]) -> str:
    """Student's t interval over seeds."""
    if len(values) < 2:
        return "one seed"
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 2.0)
    half = t * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{max(0.0, np.mean(values) - half):.2f} to {np.mean(values) + half:.2f}"


def _draw(by_method: dict[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.2), constrained_layout=True)
    for method, seeds in sorted(by_method.items()):
        colour = COLOURS.get(method, "black")
        for number, points in enumerate(seeds.values()):
            gains, costs = envelope(points)
            axes.plot(costs, gains, color=colour, alpha=0.9, lw=1.6, label=method if number == 0 else None)
            x, y = ([p[key][0] for p in points] for key in ("forgetting", "gain"))
            axes.scatter(x, y, s=9, color=colour, alpha=0.35, linewidths=0)
    axes.set_xlabel("forgetting: loss added on general text, nats per token")
    axes.set_ylabel("gain: loss taken off medical text, nats per token")
    axes.set_xlim(left=-0.005)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    axes.set_title(
        "Up and to the left is better: every point of training and threshold, lines are the best of each method"
    )
    for ending in ("svg", "png"):
        figure.savefig(folder / f"frontier.{ending}", dpi=150)
    plt.close(figure)
