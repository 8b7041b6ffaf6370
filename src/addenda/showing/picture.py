"""The demo's picture: what each method learned, and what it moved of everything else, as bars side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from addenda.measuring.drawing.plots import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from addenda.showing.columns import Column
    from addenda.showing.demo_report import DemoReport


@dataclass(frozen=True)
class Bar:
    """One method's number with its interval, as it is to be written beside the bar."""

    label: str
    value: float
    low: float
    high: float
    said: str
    role: str


@dataclass(frozen=True)
class Panel:
    """One measure: its bars from top to bottom, what it is, and which way is better."""

    title: str
    below: str
    bars: tuple[Bar, ...]


def panels_of(report: DemoReport) -> list[Panel]:
    """What was learned, then how far everything else was moved: losses where no chat was asked, predictions, answers to chats."""
    scene, pair = report.scene, ((report.module, "module"), (report.rival, "LoRA"))
    general = scene.general

    def panel(title: str, below: str, measure: str) -> Panel:
        return Panel(title, below, tuple(_bar(column, label, measure) for column, label in pair))

    panels = [panel(f"Learned: {scene.subject} text", "nats per token gained; more is better", "learned")]
    if report.module.chats is None:
        panels.append(panel(f"Forgotten: {general} text", "nats per token lost; less is better", "forgotten"))
    panels.append(panel(f"Moved: {general} text", "KL from the base; less is better", "kl"))
    if report.module.chats is not None:
        panels.append(panel("Changed: answers in chat", f"of {report.module.chats.changed.n}; less is better", "chats"))
    return panels


def _bar(column: Column, label: str, measure: str) -> Bar:
    if measure == "chats":
        assert column.chats is not None
        interval = column.chats.changed
        count = round(interval.value * len(column.chats.answers))
        return Bar(label, interval.value, interval.low, interval.high, str(count), column.role)
    interval = getattr(column, measure)
    value = float(interval)
    digits = f"{value:.3f}".replace("-", "−")
    said = digits if float(f"{value:.3f}") else "0.000"
    return Bar(label, value, interval.low, interval.high, said, column.role)


def picture(
    panels: Sequence[Panel],
    *,
    size: tuple[float, float],
    across: int,
    palette: Mapping[str, str] | None = None,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw panels of bars, `across` in a row.

    Args:
        panels: at least one.
        size: in inches.
        across: panels beside each other.
        palette: colour by role; default: stand-ins that `to_svg` turns into the page's own colours.
        title: above it all, for a picture that stands alone.
        note: small print below it, for such a picture.
    """
    down = -(-len(panels) // across)
    with canvas(size, palette) as (figure, colours):
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.06, hspace=0.06)  # type: ignore[union-attr]
        for number, panel in enumerate(panels, 1):
            axes = figure.add_subplot(down, across, number)
            axes.patch.set_alpha(0.0)
            _draw(axes, panel, colours)
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=colours["ink"])
        if note:
            figure.supxlabel(note, x=0.012, ha="left", fontsize=9, color=colours["muted"])
    return figure


def _draw(axes: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    ends = [0.0, *_numbers(panel)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    for row, bar in enumerate(panel.bars):
        colour = colours[bar.role]
        axes.barh(row, bar.value, height=0.56, color=colour, zorder=3)
        axes.plot([bar.low, bar.high], [row, row], "-", color=colours["ink"], linewidth=1.2, zorder=4)
        beside = max(0.0, bar.value, bar.high) + 0.03 * span
        axes.text(beside, row, bar.said, va="center", ha="left", fontsize=13, fontweight="bold", color=colour)
    axes.axvline(0, color=colours["muted"], linewidth=0.9, zorder=2)
    axes.set_xlim(low - (0.04 * span if low < 0 else 0), high + 0.34 * span)
    axes.set_ylim(len(panel.bars) - 0.5, -0.6)
    axes.set_yticks(range(len(panel.bars)), [bar.label for bar in panel.bars], fontsize=11.5, color=colours["ink"])
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(panel.title, loc="left", fontsize=11.5, fontweight="bold", color=colours["ink"], pad=22)
    axes.annotate(
        panel.below,
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9.5,
        color=colours["muted"],
    )


def _numbers(panel: Panel) -> Iterator[float]:
    for bar in panel.bars:
        yield from (bar.value, bar.low, bar.high)
