"""Pages of studies: tables over seeds, and the figures that go with them, from records."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from recipes.frontier import with_t_interval
from recipes.studies.plan import Records

COLOURS = {
    "full": "#7f7f7f", "lora": "#d95f02", "adapter": "#e6ab02", "neutral-token": "#1b9e77", "neutral-context": "#1f78b4",
    "registers": "#b15928", "registers-joint": "#b15928", "joint": "#b15928", "neutral": "#6a3d9a",
    "registers-neutral": "#6a3d9a", "cartridge": "#e7298a", "locas": "#66a61e",
}  # fmt: skip
Cell = Callable[[Records], str]


def grouped(records: Records, key: Callable[[dict[str, Any]], Any]) -> dict[Any, Records]:
    """Records by a key of their run, in the order in which keys first come."""
    groups: dict[Any, Records] = defaultdict(list)
    for one in records:
        groups[key(one["run"])].append(one)
    return dict(groups)


def table(heads: Sequence[str], groups: Mapping[Any, Records], cells: Sequence[Cell]) -> list[str]:
    """One line for each group: its names, how many runs, and what each cell says of its records."""
    if not groups:
        return []
    names = len(heads) - len(cells) - 1
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for key, found in groups.items():
        names_of = key if isinstance(key, tuple) else (key,)
        told = [f"{one:,}" if isinstance(one, int) else str(one) for one in names_of]
        assert len(told) == names, (told, heads)
        lines.append("| " + " | ".join([*told, str(len(found)), *(cell(found) for cell in cells)]) + " |")
    return lines


def gain_of(subject: str) -> Cell:
    """Gain on a subject, mean and interval over seeds."""
    return lambda found: _mean(one["gains"][subject][0] for one in found)


def own_gain(found: Records) -> str:
    """Gain on the one subject of each run."""
    return _mean(next(iter(one["gains"].values()))[0] for one in found)


def forgotten(found: Records) -> str:
    """Loss added on general text."""
    return _mean(one["forgetting"][0] for one in found)


def untouched(found: Records) -> str:
    """Share of general tokens left bit-equal."""
    shares = [one["untouched"] for one in found if "untouched" in one]
    return f"{sum(shares) / len(shares):.1%}" if shares else "-"


def parameters(found: Records) -> str:
    """Parameters of what was trained."""
    return f"{found[0]['parameters']:,}"


def seconds(found: Records) -> str:
    """The median of what training took."""
    ordered = sorted(one["seconds"] for one in found)
    return f"{ordered[len(ordered) // 2]:.0f}"


def rate(found: Records) -> str:
    """The learning rate."""
    return ", ".join(f"{lr:g}" for lr in sorted({one["run"]["lr"] for one in found}))


def _mean(values: Iterable[float]) -> str:
    return with_t_interval(list(values), 3, -math.inf)


def mean_of(found: Records, value: Callable[[dict[str, Any]], float]) -> tuple[float, float]:
    """Mean over records, and half the distance between the least and the most: for error bars."""
    values = [value(one) for one in found]
    return sum(values) / len(values), (max(values) - min(values)) / 2


def devices(records: Records) -> str:
    """On what the runs were computed."""
    names = sorted({one["device"] for one in records})
    return "Computed on: " + "; ".join(names) + "." if names else ""


def written(parts: Iterable[tuple[str, list[str]]], records: Records) -> str:
    """Titled tables as Markdown; parts without a table are left out."""
    body = "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in parts if lines)
    return f"{body}\n\n{devices(records)}\n" if body else ""


def canvas(panels: int, width: float = 4.6, height: float = 4.2, **more: Any) -> tuple[Any, Any]:
    """A figure with so many panels side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, panels, figsize=(width * panels, height), squeeze=False, constrained_layout=True, **more
    )
    return figure, list(axes[0])


def bare(axes: Any, x: str, y: str, title: str = "") -> None:
    """Labels, a grid, no box; zero need not be in sight."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
