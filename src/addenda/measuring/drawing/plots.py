"""Plots: learning against forgetting, as SVG that follows a page's colours or as a picture of its own."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Interval = tuple[float, float]
#: what a colour is for, and the custom property of the page that holds it; the numbers stand for them inside matplotlib
ROLES: dict[str, tuple[str, str]] = {
    "ink": ("#010101", "var(--ink)"),
    "muted": ("#020202", "var(--muted)"),
    "line": ("#030303", "var(--line)"),
    "paper": ("#040404", "var(--paper)"),
    "first": ("#050505", "var(--first)"),
    "second": ("#060606", "var(--second)"),
    "third": ("#070707", "var(--third)"),
}
LIGHT: dict[str, str] = {
    "ink": "#1d1d1b",
    "muted": "#5d5d58",
    "line": "#e3e1da",
    "paper": "#ffffff",
    "first": "#0b7a75",
    "second": "#c2500a",
    "third": "#6b4fbb",
}
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "addenda",
    "axes.unicode_minus": True,
}


#: where a name may stand beside its point, in typographic points, the nearest places first
OFFSETS: list[tuple[int, int]] = [
    place
    for far in (12, 22, 36, 54)
    for place in ((far, far), (-far, far), (far, -far), (-far, -far), (0, far + 4), (0, -far - 4))
]


@dataclass(frozen=True)
class Curve:
    """One method's way from the base: (forgetting, learning) at each validation, and the intervals of the last."""

    label: str
    points: tuple[tuple[float, float], ...]
    forgetting: Interval
    learning: Interval
    role: str = "first"


def learning_forgetting(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    size: tuple[float, float] = (8.0, 5.0),
    palette: Mapping[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Draw each curve from the base at the origin, its last point marked with its intervals and its name.

    Args:
        curves: at least one.
        x_label: what forgetting is, and on which text.
        y_label: what learning is, and on which text.
        size: in inches; text keeps its size, so a narrow figure suits a narrow screen.
        note: small print above the plot, for a picture that stands alone.
        palette: colour by role; default: stand-ins that `to_svg` turns into the page's own colours.
    """
    with canvas(size, palette) as (figure, colours):
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        _frame(axes, colours, x_label, y_label)
        if note:
            axes.set_title(note, loc="left", fontsize=9.5, color=colours["muted"], pad=12)
        for curve in curves:
            _draw(axes, curve, colours)
        axes.plot([0], [0], "o", color=colours["ink"], markersize=7, zorder=5)
        axes.margins(x=0.16, y=0.12)
        figure.draw_without_rendering()
        names = [("base", (0.0, 0.0), colours["ink"])]
        names += [(curve.label, curve.points[-1], colours[curve.role]) for curve in curves]
        _name(figure, axes, names, [line for curve in curves for line in _lines(curve)])
    return figure


@dataclass(frozen=True)
class Mark:
    """One method as a point (x, y) with the interval of y."""

    label: str
    x: float
    y: float
    interval: Interval
    role: str = "first"


def scatter(
    marks: Sequence[Mark],
    *,
    x_label: str,
    y_label: str,
    size: tuple[float, float] = (8.0, 5.0),
    palette: Mapping[str, str] | None = None,
) -> Figure:
    """Draw points with their names, for a cost against a quality; arguments as for `learning_forgetting`."""
    with canvas(size, palette) as (figure, colours):
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        _frame(axes, colours, x_label, y_label)
        axes.lines[-1].remove()  # no line at x = 0: a cost does not begin there
        for mark in marks:
            axes.plot([mark.x] * 2, mark.interval, "-", color=colours[mark.role], linewidth=1.2, zorder=4)
            edge = {"markeredgecolor": colours["paper"], "markeredgewidth": 1.5}
            axes.plot([mark.x], [mark.y], "o", color=colours[mark.role], markersize=9, zorder=6, **edge)
        if max(mark.x for mark in marks) > 4 * min(mark.x for mark in marks) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.16, y=0.14)
        figure.draw_without_rendering()
        names = [(mark.label, (mark.x, mark.y), colours[mark.role]) for mark in marks]
        _name(figure, axes, names, [[(mark.x, end) for end in mark.interval] for mark in marks])
    return figure


def heat_maps(
    matrices: Mapping[str, Sequence[Sequence[float]]], *, across: int = 4, palette: Mapping[str, str] | None = None
) -> Figure:
    """Draw square matrices by name, `across` in a row, on one scale: the larger a number, the darker. Small ones show it."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    across = min(across, len(matrices))
    down = -(-len(matrices) // across)
    largest = max(1e-9, *(float(np.max(matrix)) for matrix in matrices.values()))
    # one colour for both themes: a page's own cannot be mixed
    shades = LinearSegmentedColormap.from_list("shades", [(1.0, 0.97, 0.93, 0.15), (0.76, 0.31, 0.04, 1.0)])
    with canvas((2.3 * across, 2.5 * down), palette) as (figure, colours):
        for number, (name, matrix) in enumerate(matrices.items(), 1):
            axes = figure.add_subplot(down, across, number)
            axes.imshow(np.clip(np.array(matrix), 0, None), cmap=shades, vmin=0, vmax=largest)
            axes.set_title(name, fontsize=9, color=colours["ink"])
            axes.set_xticks(range(len(matrix)))
            axes.set_yticks(range(len(matrix)))
            axes.tick_params(colors=colours["muted"], length=0, labelsize=7)
            axes.patch.set_alpha(0.0)
            for side in axes.spines.values():
                side.set_color(colours["line"])
            if len(matrix) <= 4:
                for (row, column), value in np.ndenumerate(np.array(matrix)):
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colours["ink"])
    return figure


@contextmanager
def canvas(size: tuple[float, float], palette: Mapping[str, str] | None) -> Iterator[tuple[Figure, dict[str, str]]]:
    """An empty figure in the page's type, and its colour by role, for a block that draws on it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0.0 if palette is None else 1.0)
        yield figure, dict(palette or {role: stand_in for role, (stand_in, _) in ROLES.items()})


def _frame(axes: Axes, colours: Mapping[str, str], x_label: str, y_label: str) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colours["line"])
    axes.grid(color=colours["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colours["muted"], length=0, labelsize=10)
    axes.axhline(0, color=colours["muted"], linewidth=0.8)
    axes.axvline(0, color=colours["muted"], linewidth=0.8)
    axes.set_xlabel(x_label, color=colours["muted"], labelpad=8)
    axes.set_ylabel(y_label, color=colours["muted"], labelpad=8)
    axes.locator_params(nbins=6)


def _lines(curve: Curve) -> list[list[tuple[float, float]]]:
    """What is drawn of a curve: its path, and the two bars at its end."""
    x, y = curve.points[-1]
    bars = [[(end, y) for end in curve.forgetting], [(x, end) for end in curve.learning]]
    return [[(0.0, 0.0), *curve.points], *bars]


def _draw(axes: Axes, curve: Curve, colours: Mapping[str, str]) -> None:
    colour = colours[curve.role]
    path, *bars = _lines(curve)
    x, y = zip(*path, strict=True)
    axes.plot(x, y, "-", color=colour, linewidth=1.6, alpha=0.75, zorder=3)
    axes.plot(x[1:-1], y[1:-1], "o", color=colour, markersize=4, zorder=4)
    for bar in bars:
        axes.plot(*zip(*bar, strict=True), "-", color=colour, linewidth=1.2, zorder=4)
    edge = {"markeredgecolor": colours["paper"], "markeredgewidth": 1.5}
    axes.plot(x[-1:], y[-1:], "o", color=colour, markersize=10, zorder=6, **edge)


def _name(
    figure: Figure,
    axes: Axes,
    names: Sequence[tuple[str, tuple[float, float], str]],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> None:
    """Write each name beside its point, nearer to it than to any other, where it covers no point, bar, path or other name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = axes.get_window_extent(renderer)
    points = axes.transData.transform([at for _, at, _ in names])
    taken = [box for line in lines for box in _along(axes.transData.transform(line))]
    for number, (text, at, colour) in enumerate(names):
        best: tuple[float, Any] | None = None
        for dx, dy in OFFSETS:
            label = axes.annotate(
                text,
                at,
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top",
                color=colour,
                fontweight="bold",
                zorder=7,
            )
            box = label.get_window_extent(renderer).expanded(1.08, 1.2)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 + 4 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            cost = sum(_overlap(box, other) for other in taken) + (0 if inside else 1e6)
            cost += 1e4 * (_nearest(box, points) != number)
            if best is not None and cost >= best[0]:
                label.remove()
                continue
            if best is not None:
                best[1].remove()
            best = (cost, label)
            if cost == 0:
                break
        assert best is not None
        taken.append(best[1].get_window_extent(renderer))


def _nearest(box: Bbox, points: Any) -> int:
    """Which of some points [N, 2] in pixels is nearest to a box, the first of those that are."""
    apart = [
        (max(box.x0 - x, 0.0, x - box.x1) ** 2 + max(box.y0 - y, 0.0, y - box.y1) ** 2, number)
        for number, (x, y) in enumerate(points)
    ]
    return min(apart)[1]


def _along(points: Any) -> list[Bbox]:
    """Small boxes all along a line through points in pixels, close enough that no name can slip between."""
    from matplotlib.transforms import Bbox

    boxes = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in points]
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) // 6) + 1
        middle = [(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(1, steps)]
        boxes += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in middle]
    return boxes


def _overlap(box: Bbox, other: Bbox) -> float:
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0


def to_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an inline SVG element in the page's colours and type; `name` keeps its ids apart from others'."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'(href)="#([^"]+)"', rf'\1="#{name}-\2"', svg)
    for stand_in, colour in ROLES.values():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"'DejaVu Sans'(, sans-serif)?", "var(--sans)", svg)
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg[:600]).groups()  # type: ignore[union-attr]
    svg = svg.replace(f'width="{width}pt" height="{height}pt"', f'class="plot" role="img" aria-label="{title}"', 1)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg, count=2).strip()


def save_picture(figure: Figure, path: Path) -> Path:
    """Write a figure drawn in colours of its own to a `.png` or `.svg` file.

    Raises:
        AddendaError: the file's name ends otherwise.
    """
    if path.suffix not in (".png", ".svg"):
        raise AddendaError(f"a picture is a .png or .svg file; got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    import matplotlib as mpl

    with mpl.rc_context({**_STYLE, "svg.fonttype": "path"}):
        metadata = {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
        figure.savefig(path, dpi=160, metadata=metadata)
    return path
