"""Figures of studies: colours by method, panels side by side, axes without a box, files that are the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {
    "full": "#7f7f7f", "lora": "#d95f02", "adapter": "#e6ab02", "neutral-token": "#1b9e77", "neutral-context": "#1f78b4",
    "registers": "#b15928", "registers-joint": "#b15928", "joint": "#b15928", "neutral": "#6a3d9a",
    "registers-neutral": "#6a3d9a", "cartridge": "#e7298a", "locas": "#66a61e",
}  # fmt: skip


def canvas(panels: int, width: float = 4.6, height: float = 4.2, **more: Any) -> tuple[Any, Any]:
    """A figure with so many panels side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, panels, figsize=(width * panels, height), squeeze=False, constrained_layout=True, **more
    )
    return figure, list(axes[0])


def dress(axes: Any, x: str, y: str, title: str = "", *, zero: bool = False) -> None:
    """Labels, a grid, no box; with `zero` the axes begin there."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if zero:
        axes.set_xlim(left=-0.005)
        axes.set_ylim(bottom=0)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG and PNG."""
    from matplotlib import pyplot as plt

    # the same bytes every time, so that a change in the file is a change in the picture
    with plt.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=130)
    plt.close(figure)
